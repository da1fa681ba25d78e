"""`migrate`: the two configurations of the field's tutorial, and what else older endpoints hold."""

from __future__ import annotations

import json
import shutil
import uuid
from pathlib import Path

import pytest
import yaml

from appfl_gc.hpc.endpoint.migrate import migrate
from appfl_gc.protocol.errors import UsageError
from tests.hpc.loaded import loaded

OLDER = Path(__file__).parent / "older"
IDENTIFIER = str(uuid.uuid4())


def older(directory: Path, text: str) -> Path:
    directory.mkdir(parents=True)
    (directory / "config.yaml").write_text(text)
    (directory / "endpoint.json").write_text(json.dumps({"endpoint_id": IDENTIFIER}))
    return directory


@pytest.mark.parametrize("path", sorted(OLDER.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_tutorials_configurations(path: Path, endpoints: Path) -> None:
    directory = older(endpoints / "site", path.read_text())
    done = migrate("site", endpoints)
    told = "\n".join(done.changes)
    for changed in ("HighThroughputEngine", "walltime", "SimpleStrategy", "config.yaml", "account", "conda"):
        assert changed in told
    assert done.endpoint is not None
    assert done.endpoint.backup is not None
    assert (done.endpoint.backup / "config.yaml").read_text() == path.read_text()
    assert json.loads((directory / "endpoint.json").read_text()) == {"endpoint_id": IDENTIFIER}

    with loaded(directory, {"account": "mine", "interface": "lo"}) as config:
        engine, provider = config.engine.executor, config.engine.executor.provider
        assert engine.max_workers_per_node == 1
        assert config.engine._job_status_kwargs["max_idletime"] == 3600
        assert (provider.account, provider.queue, provider.walltime) == ("mine", "debug", "00:30:00")
        assert (provider.init_blocks, provider.min_blocks, provider.max_blocks) == (0, 0, 1)
        assert (provider.nodes_per_block, provider.cpus_per_node) == (1, 32)
        assert provider.select_options == "ngpus=4"
        assert provider.scheduler_options == "#PBS -l filesystems=home:eagle:grand"
        assert provider.worker_init.startswith("module use /soft/modulefiles\nmodule load conda\n")
        assert ('export http_proxy=""' in provider.worker_init) == ("without_proxy" in path.stem)
        assert "<" not in provider.worker_init
    assert "default('\"bond0\"')" in (directory / "user_config_template.yaml.j2").read_text()


def test_twice_is_once(endpoints: Path) -> None:
    directory = older(endpoints / "site", (OLDER / "polaris.yaml").read_text())
    migrate("site", endpoints)
    files = {path.name: path.read_bytes() for path in directory.iterdir()}
    again = migrate(str(directory / "config.yaml"), endpoints)
    assert again.endpoint is None
    assert "nothing was changed" in again.changes[0]
    assert {path.name: path.read_bytes() for path in directory.iterdir()} == files
    assert len(list((endpoints / "backups").iterdir())) == 1


def test_the_directory_with_a_hyphen(endpoints: Path, home: Path) -> None:
    stray = older(home / ".globus-compute" / "site", (OLDER / "polaris.yaml").read_text())
    done = migrate("site", endpoints)
    assert done.endpoint is not None
    assert done.endpoint.directory == endpoints / "site"
    assert json.loads((endpoints / "site" / "endpoint.json").read_text()) == {"endpoint_id": IDENTIFIER}
    assert (stray / "config.yaml").read_text() == (OLDER / "polaris.yaml").read_text()


def test_numbers_are_the_old_ones_also_where_yaml_misread_them(endpoints: Path) -> None:
    text = (OLDER / "polaris.yaml").read_text().replace("00:30:00", "10:00:00").replace("3600", "1800")
    assert yaml.safe_load(text)["engine"]["provider"]["walltime"] == 36000
    directory = older(endpoints / "site", text)
    assert any("36000" in change for change in migrate("site", endpoints).changes)
    with loaded(directory, {"account": "a", "interface": "lo"}) as config:
        assert config.engine.executor.provider.walltime == "10:00:00"
        assert config.engine._job_status_kwargs["max_idletime"] == 1800


def test_other_keys_are_carried_over_or_named(endpoints: Path) -> None:
    old = {
        "display_name": "My endpoint",
        "heartbeat_period": 60,
        "idle_heartbeats_soft": 10,
        "amqp_port": 443,
        "endpoint_setup": "true",
        "detach_endpoint": True,
        "unheard_of": 1,
        "engine": {
            "type": "GlobusComputeEngine",
            "max_workers": 4,
            "available_accelerators": 4,
            "prefetch_capacity": 1,
            "job_status_kwargs": {"max_idletime": 500},
            "provider": {
                "type": "SlurmProvider",
                "partition": "gpu",
                "account": "abc",
                "mem_per_node": 64,
                "exclusive": False,
                "channel": {"type": "LocalChannel"},
                "launcher": {"type": "SrunLauncher", "overrides": "--exact"},
                "worker_init": "if true; then echo a; fi",
            },
        },
    }
    directory = older(endpoints / "site", yaml.safe_dump(old))
    told = "\n".join(migrate("site", endpoints).changes)
    for key in ("detach_endpoint", "unheard_of", "channel", "max_workers"):
        assert key in told
    core = yaml.safe_load((directory / "config.yaml").read_text())
    assert core["display_name"] == "My endpoint"
    assert core["amqp_port"] == 443
    with loaded(directory, {}) as config:
        engine, provider = config.engine.executor, config.engine.executor.provider
        assert (config.heartbeat_period, config.idle_heartbeats_soft) == (60, 10)
        assert config.endpoint_setup == "true"
        assert (engine.max_workers_per_node, len(engine.available_accelerators)) == (4, 4)
        assert engine.prefetch_capacity == 1
        assert (provider.partition, provider.mem_per_node, provider.exclusive) == ("gpu", 64, False)
        assert provider.launcher.overrides == "--exact"
        assert "if true; then echo a; fi\n" in provider.worker_init
        assert config.engine._job_status_kwargs["max_idletime"] == 500


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("engine: {type: ThreadPoolEngine}", "ThreadPoolEngine"),
        ("engine: {type: GlobusComputeEngine, provider: {type: AWSProvider}}", "AWSProvider"),
        ("engine: [1]", "block of keys"),
        ("- 1", "no keys"),
        ("engine: {", "can't be read"),
        ("engine: {type: GlobusComputeEngine, provider: {type: PBSProProvider, account: 'a b'}}", "account"),
    ],
)
def test_what_cannot_be_rewritten_is_left_alone(text: str, words: str, endpoints: Path) -> None:
    directory = older(endpoints / "site", text)
    with pytest.raises(UsageError, match=words):
        migrate("site", endpoints)
    assert (directory / "config.yaml").read_text() == text
    assert not (endpoints / "backups").exists()


def test_nothing_to_rewrite(endpoints: Path, tmp_path: Path) -> None:
    for name in ("nowhere", str(tmp_path / "no.yaml"), "a/b"):
        with pytest.raises(UsageError):
            migrate(name, endpoints)
    shutil.rmtree(endpoints, ignore_errors=True)
