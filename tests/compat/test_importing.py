"""User files that import ``appfl``."""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

import appfl_gc.site.data.partition as partition
from appfl_gc.compat.bases import BaseAggregator, BaseScheduler
from appfl_gc.compat.importing import import_appfl
from appfl_gc.compat.names import PROVIDED
from appfl_gc.protocol.errors import UserCodeError
from appfl_gc.protocol.source import Source
from appfl_gc.site.source_loader import SourceLoader
from appfl_gc.site.trainer.base import BaseTrainer
from appfl_gc.site.trainer.vanilla import VanillaTrainer


@pytest.fixture
def run(tmp_path: Path) -> Any:
    """Load a file and return its last function."""

    def load(text: str) -> Any:
        source = Source("metric", "", "user.py", textwrap.dedent(text))
        return SourceLoader(tmp_path).load(source).target

    return load


def test_every_name_that_users_import_is_there() -> None:
    for full in PROVIDED:
        module, _, name = full.rpartition(".")
        assert callable(getattr(import_appfl(module, [name]), name)), full


def test_from_imports_give_our_classes(run: Any) -> None:
    names = run("""
        from appfl.misc.data import Dataset, iid_partition, class_noniid_partition, dirichlet_noniid_partition
        from appfl.algorithm.trainer import BaseTrainer, VanillaTrainer
        from appfl.algorithm.trainer.base_trainer import BaseTrainer as Base
        from appfl.algorithm.trainer.vanilla_trainer import VanillaTrainer as Vanilla
        from appfl.algorithm.aggregator import BaseAggregator
        from appfl.algorithm.scheduler import BaseScheduler
        def names():
            return globals()
    """)()
    assert names["Dataset"] is partition.Dataset
    assert names["iid_partition"] is partition.iid_partition
    assert names["class_noniid_partition"] is partition.class_noniid_partition
    assert names["dirichlet_noniid_partition"] is partition.dirichlet_noniid_partition
    assert names["BaseTrainer"] is names["Base"] is BaseTrainer
    assert names["VanillaTrainer"] is names["Vanilla"] is VanillaTrainer
    assert names["BaseAggregator"] is BaseAggregator
    assert names["BaseScheduler"] is BaseScheduler


def test_the_other_forms_of_import_work(run: Any) -> None:
    result = run("""
        import appfl
        import appfl.misc.data
        import appfl.misc.data as data
        from appfl.misc import data as again
        from appfl.algorithm import trainer
        from appfl.algorithm.trainer import *
        def f():
            return [appfl.misc.data.Dataset, data.Dataset, again.Dataset, trainer.BaseTrainer, BaseTrainer]
    """)()
    assert result == [partition.Dataset] * 3 + [BaseTrainer] * 2


def test_an_import_inside_a_function_works_when_it_is_called_later(run: Any) -> None:
    function = run("""
        def f():
            from appfl.misc.data import Dataset
            return Dataset
    """)
    assert function() is partition.Dataset


def test_ours_wins_over_an_installed_appfl_in_user_files_only(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "site-packages" / "appfl" / "misc"
    package.mkdir(parents=True)
    (package.parent / "__init__.py").write_text("")
    (package / "__init__.py").write_text("")
    (package / "data.py").write_text("Dataset = 'the installed one'\n")
    (package.parent.parent / "uses_appfl.py").write_text("from appfl.misc.data import Dataset\n")
    monkeypatch.syspath_prepend(str(package.parent.parent))
    before = list(sys.meta_path)
    try:
        ours, theirs = run("""
            from appfl.misc.data import Dataset
            def f():
                import uses_appfl
                from appfl.misc.data import Dataset as again
                return again, uses_appfl.Dataset
        """)()
    finally:
        for name in [name for name in sys.modules if name == "uses_appfl" or name.split(".")[0] == "appfl"]:
            del sys.modules[name]
    assert ours is partition.Dataset
    assert theirs == "the installed one"
    assert sys.meta_path == before


@pytest.mark.parametrize(
    ("statement", "name", "instead"),
    [
        ("from appfl.agent import ServerAgent", "appfl.agent", "appfl_gc.run"),
        ("import appfl.comm.globus_compute", "appfl.comm.globus_compute", "appfl_gc.run"),
        ("from appfl.misc.data import column_partition", "appfl.misc.data.column_partition", "iid_partition"),
        ("from appfl.misc.utils import get_device", "appfl.misc.utils", "no replacement"),
        ("from appfl.algorithm.trainer import FedProxTrainer", "FedProxTrainer", "VanillaTrainer"),
        ("from appfl.algorithm.aggregator import FedAvgAggregator", "FedAvgAggregator", "BaseAggregator"),
        ("from appfl.algorithm.scheduler import SyncScheduler", "SyncScheduler", "server_configs.scheduler"),
        ("from appfl.nothing_of_the_kind import x", "appfl.nothing_of_the_kind", "no replacement"),
        ("import appfl\nappfl.agent", "appfl.agent", "appfl_gc.run"),
    ],
)
def test_any_other_name_is_an_error_that_says_what_to_use(
    run: Any, statement: str, name: str, instead: str
) -> None:
    with pytest.raises(UserCodeError) as caught:
        run(f"{statement}\ndef f(): pass\n")
    assert name in caught.value.message
    assert instead in caught.value.message
    assert "user.py line" in caught.value.message


def test_packages_whose_name_only_begins_so_are_not_ours(run: Any) -> None:
    with pytest.raises(UserCodeError, match="appfl_extensions is not installed"):
        run("import appfl_extensions\ndef f(): pass\n")


def test_relative_imports_keep_their_own_error(run: Any) -> None:
    with pytest.raises(UserCodeError, match="relative import"):
        run("# appfl\nfrom .appfl import x\ndef f(): pass\n")
