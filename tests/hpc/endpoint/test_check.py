"""`check`: each thing that it looks for is found, and an endpoint of ours is in order."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from appfl_gc.hpc.endpoint import check as module
from appfl_gc.hpc.endpoint.check import check
from appfl_gc.hpc.endpoint.configure import configure
from appfl_gc.hpc.endpoint.engine_check import engine_findings
from appfl_gc.hpc.endpoint.options import POOL_ENGINE, EndpointOptions
from appfl_gc.protocol.errors import UsageError

OLDER = Path(__file__).parent / "older"
HERE = str(Path(sys.executable).parent)


def told(found: list[Any]) -> str:
    return "\n".join(map(str, found))


@pytest.mark.parametrize(
    "options",
    [
        EndpointOptions(),
        EndpointOptions(engine=POOL_ENGINE),
        EndpointOptions("slurm", {"interface": "lo"}),
        EndpointOptions("polaris", {"interface": "lo", "accelerators": 4}),
        EndpointOptions("delta"),
    ],
    ids=lambda options: f"{options.facility}-{options.engine}",
)
def test_what_configure_writes_is_in_order(options: EndpointOptions, endpoints: Path) -> None:
    configure("site", options, endpoints)
    assert check("site", endpoints) == []


def test_an_older_endpoint(endpoints: Path) -> None:
    (endpoints / "site").mkdir(parents=True)
    (endpoints / "site" / "config.yaml").write_text((OLDER / "polaris.yaml").read_text())
    found = told(check("site", endpoints))
    for words in (
        "has the engine",
        "HighThroughputEngine is gone",
        "`strategy` is a block",
        "endpoint migrate site",
    ):
        assert words in found


def test_the_directory_with_a_hyphen(endpoints: Path, home: Path) -> None:
    stray = home / ".globus-compute" / "site"
    stray.mkdir(parents=True)
    (found,) = check("site", endpoints)
    assert found.is_error
    assert "underscore" in found.message
    configure("site", user_dir=endpoints)
    (found,) = check("site", endpoints)
    assert not found.is_error
    assert str(stray) in found.message


def test_the_agents_own_template(endpoints: Path) -> None:
    command = [Path(HERE) / "globus-compute-endpoint", "configure", "site", "--multi-user", "false"]
    subprocess.run(command, check=True, capture_output=True)
    found = told(check("site", endpoints))
    assert "uv for each submitter, and appfl_gc is not in it" in found
    assert "stops after 300 seconds" in found


def test_root_needs_an_address_and_a_path(endpoints: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = configure("site", user_dir=endpoints).directory
    (directory / "config.yaml").write_text("")
    (directory / "user_environment.yaml").write_text("MY_API_TOKEN: hidden\n")
    monkeypatch.setattr(module, "privileged", lambda: True)
    found = told(check("site", endpoints))
    assert "no `email`" in found
    assert "no PATH" in found
    assert "gives MY_API_TOKEN to user endpoints" in found
    assert "hidden" not in found
    monkeypatch.setattr(module, "privileged", lambda: False)
    assert "email" not in told(check("site", endpoints))


def test_an_interface_that_is_not_here(endpoints: Path) -> None:
    configure("site", EndpointOptions("slurm", {"interface": "nosuch0"}), endpoints)
    assert "interface is not on this machine" in told(check("site", endpoints))


def test_the_agents_words_about_a_template(endpoints: Path) -> None:
    template = configure("site", user_dir=endpoints).directory / "user_config_template.yaml.j2"
    original = template.read_text()
    template.write_text("engine:\n  type: {{ nothing }}\n")
    assert "'nothing' is undefined" in told(check("site", endpoints))
    template.write_text(original.replace('"GlobusComputeEngine"', '"NoSuchEngine"'))
    assert "'NoSuchEngine' is not a valid engine" in told(check("site", endpoints))
    template.write_text(original + 'other: "AWS_SECRET_ACCESS_KEY=hidden"\n')
    assert "seems to hold a secret" in told(check("site", endpoints))
    assert "hidden" not in told(check("site", endpoints))
    template.write_text("engine: [\n")
    assert "not YAML" in told(check("site", endpoints))
    template.unlink()
    assert "can't be read" in told(check("site", endpoints))


def test_the_options_of_a_client_are_tried(endpoints: Path) -> None:
    configure("site", EndpointOptions("slurm", {"queue": "q", "account": "a"}), endpoints)
    assert check("site", endpoints, options={"walltime": "00:10:00"}) == []
    assert "'wall' was unexpected" in told(check("site", endpoints, options={"wall": "00:10:00"}))


def test_a_python_file_that_hides_the_yaml_file(endpoints: Path) -> None:
    directory = configure("site", user_dir=endpoints).directory
    (directory / "config.py").write_text("config = None\n")
    assert "config.py" in told(check("site", endpoints))


def test_the_agent_must_be_installed(
    endpoints: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure("site", user_dir=endpoints)
    monkeypatch.setattr(module, "binaries", lambda: tmp_path)
    assert "pip install globus-compute-endpoint" in told(check("site", endpoints))


def test_no_such_endpoint(endpoints: Path) -> None:
    with pytest.raises(UsageError, match="no endpoint nowhere"):
        check("nowhere", endpoints)


def slurm(engine: dict[str, Any] | None = None, **provider: Any) -> dict[str, Any]:
    """A rendered configuration with nothing wrong, and what the caller changes."""
    provider = {
        "type": "SlurmProvider",
        "account": "a",
        "partition": "q",
        "walltime": "01:00:00",
        "worker_init": f". {HERE}/activate",
        **provider,
    }
    scaling = {"max_idletime": 3600}
    base = {"type": "GlobusComputeEngine", "max_workers_per_node": 1, "job_status_kwargs": scaling}
    return {"engine": {**base, **(engine or {}), "provider": provider}}


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (slurm(account=None), "There is no account"),
        (slurm(partition=None), "There is no queue"),
        (slurm(walltime=3600), "the number 3600"),
        (slurm(worker_init="conda activate x"), "workers use another environment"),
        (slurm({"job_status_kwargs": {}}), "given back after 120 seconds"),
        ({**slurm(), "idle_heartbeats_soft": 10}, "stops after 300 seconds"),
        ({**slurm(), "paths": {"endpoint_dir": "/tmp/x"}}, "the nodes of a job don't see"),
        (
            slurm({"max_workers_per_node": 4}, scheduler_options="#SBATCH --gpus-per-node=4"),
            "share its 4 GPUs",
        ),
        (
            slurm({"max_workers_per_node": 4}, scheduler_options="#SBATCH --gres=gpu:a100:4"),
            "share its 4 GPUs",
        ),
        (slurm({"max_workers_per_node": None}, gpus_per_node=2), "share its 2 GPUs"),
        (slurm({"available_accelerators": 4}, gpus_per_node=2), "is 4, but a job asks for 2"),
        (slurm({"available_accelerators": 4}), "3 stay idle"),
        (slurm({"type": "GlobusMPIEngine"}), "not been tried"),
        ({"engine": {"type": "GlobusComputeEngine"}}, "no provider"),
        ({}, "no engine"),
    ],
)
def test_each_thing_is_found(config: dict[str, Any], words: str) -> None:
    yaml.safe_dump(config)  # it is what YAML holds
    assert words in told(list(engine_findings(config, 600)))


def test_nothing_is_found_where_nothing_is_wrong() -> None:
    assert list(engine_findings(slurm(), 600)) == []
    pinned = {"max_workers_per_node": 4, "available_accelerators": 4}
    assert list(engine_findings(slurm(pinned, gpus_per_node=4), 600)) == []
    assert list(engine_findings({**slurm(), "idle_heartbeats_soft": 0}, 10_000)) != []
    assert list(engine_findings({**slurm(), "idle_heartbeats_soft": 0}, 3000)) == []
