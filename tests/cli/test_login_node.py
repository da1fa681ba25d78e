from __future__ import annotations

from collections.abc import Callable

import pytest

from appfl_gc.cli.login_node import login_node_warning


def having(*commands: str) -> Callable[[str], str | None]:
    return lambda name: f"/usr/bin/{name}" if name in commands else None


@pytest.mark.parametrize(
    "host",
    [
        "login01",
        "polaris-login-02.hsn.cm.polaris.alcf.anl.gov",
        "dt-login03",
        "uan01",
        "aurora-uan-0009",
        "jrlogin05.j",
    ],
)
def test_names_of_login_nodes_are_known(host: str) -> None:
    warning = login_node_warning(host, {}, having())
    assert warning is not None and host in warning and "by its name" in warning and "Hint:" in warning


@pytest.mark.parametrize(
    "host", ["laptop", "x3004c0s1b0n0", "nid001234", "loginsight.example", "quanta", "node.login"]
)
def test_other_names_are_not(host: str) -> None:
    assert login_node_warning(host, {}, having()) is None


@pytest.mark.parametrize("command", ["qsub", "sbatch"])
def test_a_scheduler_outside_of_a_job_is_evidence_and_is_named(command: str) -> None:
    warning = login_node_warning("frontera3", {}, having(command))
    assert warning is not None and command in warning


@pytest.mark.parametrize("variable", ["PBS_JOBID", "SLURM_JOB_ID"])
def test_inside_a_job_nothing_is_said(variable: str) -> None:
    assert login_node_warning("login01", {variable: "123"}, having("qsub", "sbatch")) is None
    assert login_node_warning("login01", {variable: ""}, having()) is not None
