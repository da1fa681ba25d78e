from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from appfl_gc.config import Severity
from appfl_gc.config.sources import find_file
from tests.config.conftest import PYTHON, Project, place


def test_sources_are_the_files_texts(project: Project) -> None:
    sources = project.load().clients[1].sources
    assert set(sources) == {"model", "loss", "metric", "dataset"}
    text = (project.directory / "model.py").read_text()
    assert sources["model"].text == text
    assert sources["model"].sha256 == hashlib.sha256(text.encode()).hexdigest()
    assert (sources["model"].name, sources["model"].filename) == ("CNN", "./model.py")


def test_user_files_are_never_run(project: Project, tmp_path: Path) -> None:
    project.write("dataset.py", f"open({str(tmp_path / 'ran')!r}, 'w')\ndef get_data(client_id): ...\n")
    project.load()
    assert not (tmp_path / "ran").exists()


def test_a_relative_path_is_looked_for_here_then_beside_the_file_then_above(tmp_path: Path) -> None:
    here, yaml_file = tmp_path / "here", tmp_path / "a" / "b" / "x.yaml"
    for directory in (here, yaml_file.parent):
        directory.mkdir(parents=True)
    places = find_file("./m.py", here, yaml_file)
    assert isinstance(places, tuple)
    assert places[:4] == (here / "m.py", tmp_path / "a/b/m.py", tmp_path / "a/m.py", tmp_path / "m.py")
    for found in reversed(places[:4]):
        found.write_text("")
        assert find_file("./m.py", here, yaml_file) == found


def test_a_path_is_looked_for_beside_the_file_that_has_it(project: Project) -> None:
    server, clients = project.files()
    other = project.directory / "other" / "clients.yaml"
    other.parent.mkdir()
    other.write_text(clients.read_text())
    (other.parent / "dataset.py").write_text("def get_data(client_id):\n    'other'\n")
    from appfl_gc.config import load

    text = load(server, other).clients[0].sources["dataset"].text
    assert text is not None
    assert "other" in text


def test_a_missing_file_lists_every_place(project: Project) -> None:
    project.change_server("./model.py", "./modell.py")
    found = project.only()
    assert place(found) == {
        "file": "server.yaml",
        "line": 14,
        "key": "client_configs.model_configs.model_path",
    }
    for directory in (project.directory.parent / "elsewhere", project.directory, project.directory.parent):
        assert str(directory / "modell.py") in found.hint


def test_an_absolute_path(project: Project) -> None:
    project.change_server("./model.py", str(project.directory / "model.py"))
    assert project.found() == []
    project.change_server("/model.py", "/nothing.py")
    assert project.only().hint == f"Looked for {project.directory}/nothing.py."


@pytest.mark.parametrize(
    ("old", "new", "words", "hint"),
    [
        ('model_name: "CNN"', 'model_name: "CNNN"', "does not define `CNNN`", "`CNN`"),
        ('loss_fn_name: "CELoss"', 'loss_fn_name: "Other"', "does not define `Other`", "It defines CELoss"),
        ('metric_name: "accuracy"', 'metric_name: "acuracy"', "does not define", "`accuracy`"),
        (
            "num_classes: 10",
            "num_classes: 10\n      num_chanel: 1",
            "does not take `num_chanel`",
            "`num_channel`",
        ),
        ("model_kwargs:\n      num_classes: 10", "model_kwargs: {}", "needs num_classes", "`model_kwargs`"),
        (
            'loss_fn_name: "CELoss"',
            'loss_fn_name: "CELoss"\n    loss_fn_kwargs: {w: 1}',
            "does not take `w`",
            "weight",
        ),
    ],
)
def test_names_and_arguments(project: Project, old: str, new: str, words: str, hint: str) -> None:
    project.change_server(old, new)
    found = project.only()
    assert found.severity is Severity.ERROR
    assert words in found.message
    assert hint in found.hint


def test_the_dataset_function_of_each_client_is_checked(project: Project) -> None:
    project.change_clients("client_id: 1\n", "client: 1\n")
    found = project.found()
    assert [(item.line, item.key) for item in found] == [
        (14, "clients[1].data_configs.dataset_kwargs"),
        (15, "clients[1].data_configs.dataset_kwargs.client"),
    ]
    assert "dataset.py:1" in found[0].message


def test_arguments_that_cannot_be_told_are_not_checked(project: Project) -> None:
    project.write("dataset.py", "def get_data(**kwargs):\n    return None, None\n")
    project.write("model.py", "import torch\nclass Base(torch.nn.Module): ...\nclass CNN(Base):\n    pass\n")
    project.write("loss.py", "from somewhere import CELoss\n")
    project.write("metric.py", "from somewhere import *\n")
    assert project.found() == []


def test_a_constructor_of_a_base_class_in_the_file_counts(project: Project) -> None:
    project.write("model.py", "class Base:\n    def __init__(self, a): ...\nclass CNN(Base):\n    pass\n")
    assert {found.message.partition(" ")[2] for found in project.found()} == {
        "in ./model.py:3 does not take `num_classes`.",
        "in ./model.py:3 needs a.",
    }


@pytest.mark.parametrize(
    ("file", "line", "text", "words"),
    [
        ("loss.py", '    loss_fn_name: "CELoss"\n', "def f(): ...\n", "defines no class"),
        ("metric.py", '    metric_name: "accuracy"\n', "class C: ...\n", "defines no function"),
        ("model.py", '    model_name: "CNN"\n', "class C: ...\n", "defines no function"),
    ],
)
def test_without_a_name_the_last_of_its_sort_is_taken(
    project: Project, file: str, line: str, text: str, words: str
) -> None:
    project.change_server(line, "")
    if file == "model.py":
        project.write(file, PYTHON[file] + "        \n        def make(num_classes): ...\n")
    assert project.found() == []
    assert project.load().clients[0].sources[file.removesuffix(".py")].name == ""
    project.write(file, text)
    assert words in project.only().message


def test_a_metric_takes_two_arguments(project: Project) -> None:
    project.write("metric.py", "def accuracy(y_true):\n    return 1.0\n")
    assert "takes 1 arguments; it is given 2" in project.only().message


def test_a_file_that_is_not_python_is_reported_once_at_its_line(project: Project) -> None:
    project.write("dataset.py", "def get_data(client_id):\n    return (\n")
    found = project.only()
    assert (found.file, found.line) == ("./dataset.py", 2)
    assert "not Python" in found.message


@pytest.mark.parametrize(
    ("statement", "hint"),
    [
        ("from appfl.agent import ServerAgent", "appfl_gc.run"),
        ("import appfl.comm.globus_compute", "appfl_gc.run"),
        ("from appfl.misc.data import iid_partitions", "`iid_partition`"),
        ("from appfl.algorithm.trainer import FedProxTrainer", "Trainer"),
    ],
)
def test_imports_of_appfl_that_have_no_counterpart(project: Project, statement: str, hint: str) -> None:
    project.write("dataset.py", f"import os\n{statement}\ndef get_data(client_id): ...\n")
    found = project.only()
    assert (found.severity, found.file, found.line) == (Severity.ERROR, "./dataset.py", 2)
    assert hint in found.hint


@pytest.mark.parametrize(
    "statement",
    [
        "from appfl.misc.data import Dataset, iid_partition, class_noniid_partition, dirichlet_noniid_partition",
        "import appfl.misc.data as data",
        "from appfl.misc import data",
        "from appfl.algorithm.trainer import BaseTrainer, VanillaTrainer",
        "from appfl.algorithm.trainer.vanilla_trainer import VanillaTrainer",
        "from appfl.algorithm.aggregator import BaseAggregator",
        "from appfl.algorithm.scheduler import BaseScheduler",
    ],
)
def test_imports_of_appfl_that_the_compatibility_module_provides(project: Project, statement: str) -> None:
    project.write("dataset.py", f"{statement}\ndef get_data(client_id): ...\n")
    assert project.found() == []


def test_a_file_travels_alone(project: Project) -> None:
    project.write("dataset.py", "from .model import CNN\nimport metric\ndef get_data(client_id): ...\n")
    relative, beside = project.found()
    assert (relative.severity, relative.line) == (Severity.ERROR, 1)
    assert (beside.severity, beside.line) == (Severity.WARNING, 2)


def test_what_a_site_has_itself(project: Project) -> None:
    project.change_clients("./dataset.py", "site:scans")
    source = project.load().clients[0].sources["dataset"]
    assert (source.name, source.text, source.sha256) == ("scans", None, "")
    project.change_clients("site:scans", "site:")
    assert "name is missing" in project.only().message


def test_the_test_data_of_the_server(project: Project) -> None:
    project.write("test_data.py", "def get_test(size=1): ...\n")
    block = "  val_data_configs: {dataset_path: test_data.py, dataset_name: get_test, dataset_kwargs: {sise: 3}}\n"
    project.change_server("server_configs:\n", f"server_configs:\n{block}")
    assert "`size`" in project.only().hint
    project.change_server("sise", "size")
    federation = project.load()
    assert set(federation.sources) == {"validation_dataset"}
    assert federation.server_configs.val_data_configs is not None
    assert federation.server_configs.val_data_configs.batch_size == 1
