"""`configure`: files that the installed agent loads, for each facility, with this environment for workers."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import uuid
from pathlib import Path

import pytest
import yaml

from appfl_gc.hpc.endpoint.configure import configure, on_this_node_only
from appfl_gc.hpc.endpoint.loading import rendered
from appfl_gc.hpc.endpoint.options import POOL_ENGINE, EndpointOptions
from appfl_gc.hpc.endpoint.worker_environment import SITE_HOME, SITE_STATE
from appfl_gc.hpc.facility import facility_names, load_facility
from appfl_gc.hpc.knobs import Provider
from appfl_gc.protocol.errors import UsageError
from appfl_gc.site import paths
from tests.hpc.loaded import loaded

BATCH = {"account": "project", "queue": "gpu", "interface": "lo"}


@pytest.mark.parametrize("name", facility_names())
def test_the_agent_loads_each_facility(name: str, endpoints: Path) -> None:
    written = configure("site", EndpointOptions(facility=name), endpoints)
    facility = load_facility(name)
    options = {key: value for key, value in BATCH.items() if facility.provider.batch}
    with loaded(written.directory, options) as config:
        engine, provider = config.engine.executor, config.engine.executor.provider
        assert type(provider).__name__ == facility.provider.value
        assert engine.max_workers_per_node == 1
        assert engine.available_accelerators == []
        assert provider.worker_init.index("activate") > provider.worker_init.find("module load")
        assert config.idle_heartbeats_soft * config.heartbeat_period >= 3600
        if facility.provider.batch:
            assert provider.account == "project"
            assert provider.init_blocks == provider.min_blocks == 0
            assert isinstance(provider.walltime, str)
            assert engine.address == "127.0.0.1"
            assert type(provider.launcher).__name__ == facility.defaults["launcher"]


def test_every_setting_reaches_the_engine_and_can_be_changed_by_a_submitter(endpoints: Path) -> None:
    settings = {
        "account": "project",
        "queue": "prod",
        "walltime": "02:00:00",
        "nodes_per_block": 2,
        "init_blocks": 1,
        "min_blocks": 1,
        "max_blocks": 3,
        "cpus_per_node": 32,
        "select_options": "ngpus=4",
        "scheduler_options": "#PBS -l filesystems=home",
        "worker_init": "echo own",
        "max_workers_per_node": 2,
        "accelerators": 4,
        "max_idletime": 100,
        "launcher": "MpiExecLauncher",
        "launcher_overrides": "--ppn 1",
        "interface": "lo",
    }
    directory = configure("site", EndpointOptions("pbs", settings), endpoints).directory
    with loaded(directory, {}) as config:
        engine, provider = config.engine.executor, config.engine.executor.provider
        for name in list(settings)[:10]:
            assert getattr(provider, name) == settings[name], name
        assert provider.worker_init.endswith("echo own\n")
        assert (engine.max_workers_per_node, engine.available_accelerators) == (2, ["0", "1", "2", "3"])
        assert config.engine._job_status_kwargs["max_idletime"] == 100
        assert provider.launcher.overrides == "--ppn 1"
    theirs = {
        "account": "other",
        "queue": "debug",
        "walltime": "10:00:00",
        "nodes_per_block": 1,
        "init_blocks": 0,
        "min_blocks": 0,
        "max_blocks": 1,
        "cpus_per_node": 64,
        "select_options": "ngpus=2",
        "scheduler_options": "#PBS -l filesystems=eagle",
    }
    more = {"worker_init": "echo 'their \"own\"'", "accelerators": 2, "launcher": "SimpleLauncher"}
    with loaded(directory, {**theirs, **more, "max_idletime": 7, "max_workers_per_node": 1}) as config:
        engine, provider = config.engine.executor, config.engine.executor.provider
        for name, value in theirs.items():
            assert getattr(provider, name) == value, name
        assert provider.worker_init.endswith("echo own\necho 'their \"own\"'")
        assert (engine.max_workers_per_node, engine.available_accelerators) == (1, ["0", "1"])
        assert config.engine._job_status_kwargs["max_idletime"] == 7
        assert type(provider.launcher).__name__ == "SimpleLauncher"


def test_one_worker_for_each_accelerator(endpoints: Path) -> None:
    directory = configure(
        "site", EndpointOptions("local", {"accelerators": ["0.0", "0.1"]}), endpoints
    ).directory
    with loaded(directory, {}) as config:
        assert config.engine.executor.available_accelerators == ["0.0", "0.1"]
        assert config.engine.executor.max_workers_per_node == 2
    with loaded(directory, {"accelerators": 4}) as config:
        assert config.engine.executor.max_workers_per_node == 4


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"acount": "x"}, "acount"),
        ({"account": "a\nb"}, "does not match"),
        ({"walltime": 3600}, "not of type"),
        ({"launcher": "AprunLauncher"}, "not one of"),
        ({"scheduler_options": "rm -rf ~"}, "does not match"),
    ],
)
def test_a_submitters_option_that_does_not_fit_is_refused(
    options: dict[str, str], words: str, endpoints: Path
) -> None:
    directory = configure("site", EndpointOptions("pbs", {"account": "a", "queue": "q"}), endpoints).directory
    with pytest.raises(UsageError, match=words):
        rendered(directory, options)


def test_what_must_be_given_is_said(endpoints: Path) -> None:
    written = configure("site", EndpointOptions("slurm"), endpoints)
    assert written.required == ("account", "queue")
    with pytest.raises(UsageError, match="'account' is a required property"):
        rendered(written.directory, {"queue": "q"})


def test_locked_settings_are_the_owners(endpoints: Path) -> None:
    options = EndpointOptions("slurm", {"account": "mine", "queue": "q"}, locked=frozenset({"account"}))
    directory = configure("site", options, endpoints).directory
    with loaded(directory, {}) as config:
        assert config.engine.executor.provider.account == "mine"
    with pytest.raises(UsageError, match="account"):
        rendered(directory, {"account": "theirs"})
    with pytest.raises(UsageError, match="no value"):
        configure("other", EndpointOptions("slurm", locked=frozenset({"account"})), endpoints)


def test_an_allow_list_locks_what_a_shell_would_run(endpoints: Path) -> None:
    function = str(uuid.uuid4())
    options = EndpointOptions("pbs", {"account": "a", "queue": "q"}, allowed_functions=(function,))
    directory = configure("site", options, endpoints).directory
    schema = json.loads((directory / "user_config_schema.json").read_text())
    assert not {"worker_init", "scheduler_options", "select_options", "launcher_overrides"} & set(
        schema["properties"]
    )
    assert yaml.safe_load((directory / "config.yaml").read_text())["allowed_functions"] == [function]
    rendered(directory, {})


def test_workers_start_in_this_environment(endpoints: Path, tmp_path: Path) -> None:
    """The lines are run by a shell that knows nothing; the Python that it finds must import this package."""
    options = EndpointOptions(directory=tmp_path / "it's here", environment={"GREETING": "a 'b'"})
    directory = configure("site", options, endpoints).directory
    with loaded(directory, {"worker_init": "export THEIRS=1"}) as config:
        script = config.engine.executor.provider.worker_init
    show = "import appfl_gc, json, os, sys; print(json.dumps([sys.prefix, dict(os.environ)]))"
    environment = {"PATH": "/usr/bin:/bin", "GLOBUS_COMPUTE_CLIENT_SECRET": "hidden"}
    told = subprocess.run(
        ["bash", "-c", f"{script}\npython -c {shlex.quote(show)}"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    prefix, variables = json.loads(told.stdout)
    assert prefix == sys.prefix
    assert variables["GREETING"] == "a 'b'"
    assert variables["THEIRS"] == "1"
    assert "GLOBUS_COMPUTE_CLIENT_SECRET" not in variables
    site = paths.SitePaths.from_environment(variables)
    assert site.home == site.state == options.directory / "site"  # type: ignore[operator]


def test_the_names_of_the_sites_directories_are_the_sites() -> None:
    assert (SITE_HOME, SITE_STATE) == (paths.SITE_HOME, paths.SITE_STATE)


def test_no_secret_reaches_a_file(endpoints: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLOBUS_COMPUTE_CLIENT_ID", str(uuid.uuid4()))
    monkeypatch.setenv("GLOBUS_COMPUTE_CLIENT_SECRET", "hidden-secret")
    directory = configure("site", user_dir=endpoints).directory
    for path in directory.iterdir():
        assert "hidden-secret" not in path.read_text()
        assert path.stat().st_mode & 0o077 == 0
    variables = yaml.safe_load((directory / "user_environment.yaml").read_text())
    assert variables["GLOBUS_COMPUTE_CLIENT_SECRET"] == ""  # tasks need not see what the agent logs in with
    assert variables["PATH"].split(":")[0] == str(Path(sys.executable).parent)


def test_batch_nodes_must_see_the_directory(endpoints: Path, tmp_path: Path) -> None:
    for place in (tmp_path / "node_local", tmp_path / "node_local" / "deep"):
        with pytest.raises(UsageError, match="on this node only"):
            configure("site", EndpointOptions("slurm", directory=place), endpoints)
    configure("site", EndpointOptions("local", directory=tmp_path / "node_local"), endpoints)


def test_tmp_is_a_place_that_batch_nodes_do_not_see() -> None:
    assert on_this_node_only(Path("/tmp/x"))
    assert not on_this_node_only(Path("/home/someone/tmp"))


def test_an_environment_on_one_node_is_refused_for_batch(
    endpoints: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "node_local" / "venv"))
    with pytest.raises(UsageError, match="venv is on this node only"):
        configure("site", EndpointOptions("slurm"), endpoints)


def test_an_endpoint_is_never_overwritten(endpoints: Path) -> None:
    first = configure("site", EndpointOptions(display_name="first"), endpoints)
    (first.directory / "endpoint.json").write_text('{"endpoint_id": "kept"}')
    with pytest.raises(UsageError, match="already"):
        configure("site", EndpointOptions(display_name="second"), endpoints)
    assert "first" in (first.directory / "config.yaml").read_text()

    second = configure("site", EndpointOptions(display_name="second"), endpoints, replace=True)
    assert second.backup is not None
    assert "first" in (second.backup / "config.yaml").read_text()
    assert "second" in (second.directory / "config.yaml").read_text()
    assert "kept" in (second.directory / "endpoint.json").read_text()
    assert [path.parent.name for path in endpoints.glob("*/config.*")] == ["site"]  # what the agent lists

    (second.directory / "daemon.pid").write_text("1")
    with pytest.raises(UsageError, match="stop"):
        configure("site", EndpointOptions(), endpoints, replace=True)
    assert "second" in (second.directory / "config.yaml").read_text()


def test_a_bad_option_leaves_nothing_behind(endpoints: Path) -> None:
    with pytest.raises(UsageError, match="no effect"):
        configure("site", EndpointOptions("local", {"queue": "q"}), endpoints)
    with pytest.raises(UsageError, match="launcher"):
        configure("site", EndpointOptions("slurm", {"launcher": "MpiExecLauncher"}), endpoints)
    with pytest.raises(UsageError, match="login node"):
        configure("site", EndpointOptions("slurm", engine=POOL_ENGINE), endpoints)
    assert not endpoints.exists()


def test_the_pool_engine(endpoints: Path) -> None:
    options = EndpointOptions(settings={"max_workers_per_node": 2}, engine=POOL_ENGINE)
    directory = configure("site", options, endpoints).directory
    with loaded(directory, {}) as config:
        kwargs = dict(config.engine._executor_kwargs)
        # Workers that are replaced after so many tasks are spawned, not forked.
        assert (kwargs.pop("max_tasks_per_child", 0) > 0) == (sys.version_info >= (3, 11))
        assert kwargs == {"max_workers": 2}


def test_providers_are_named_as_parsl_names_them() -> None:
    import parsl.providers

    assert all(hasattr(parsl.providers, provider.value) for provider in Provider)
