"""The keys that say how patient a run is."""

from __future__ import annotations

import pytest

from appfl_gc.config import Severity
from appfl_gc.protocol.errors import ErrorClass
from appfl_gc.runner.policy.making import policy_of
from appfl_gc.runner.policy.settings import OnMissing, PolicySettings
from tests.config.conftest import Project

AFTER = "  num_clients: 2"


def give(project: Project, block: str) -> None:
    project.change_server(AFTER, f"{AFTER}\n  fault_tolerance_configs: {{{block}}}")


@pytest.mark.parametrize(
    ("block", "words", "hint"),
    [
        ("deadline_seconds: 0", "more than 0", ""),
        ("deadline_seconds: .inf", "a finite number", ""),
        ("retries: -1", "at least 0, found -1", ""),
        ("retries: many", "a whole number, found 'many'", ""),
        ("retries: {tranfer: 3}", "no class of failure `tranfer`", "`transfer`"),
        ("retries: {xyz: 3}", "no class of failure `xyz`", "worker_lost"),
        ("retries: {user_error: 3}", "`user_error` has no number of retries", "worker_lost"),
        ("retries: {forgotten: 3}", "`forgotten` has no number of retries", "worker_lost"),
        ("retries: {transfer: 1.5}", "at least 0, found 1.5", ""),
        ("retries: {transfer: -1}", "at least 0, found -1", ""),
        ("retries: {transfer: true}", "at least 0, found True", ""),
        ("on_missing: stop", "one of wait, drop or replace", ""),
        ("set_aside_after: 0", "at least 1", ""),
        ("try_again_seconds: -1", "at least 0", ""),
        ("stop_below: 3", "there are 2 clients", "lower"),
        ("max_update_norm: 0", "more than 0", ""),
        ("max_sample_size: 0.5", "a whole number", ""),
    ],
)
def test_a_wrong_value_is_an_error_of_its_line(project: Project, block: str, words: str, hint: str) -> None:
    give(project, block)
    found = project.only()
    assert (found.severity, found.line) == (Severity.ERROR, 20)
    assert words in found.message
    assert hint in found.hint
    assert found.key.startswith("server_configs.fault_tolerance_configs.")


def test_a_quorum_of_more_clients_than_a_round_has_is_an_error(project: Project) -> None:
    give(project, "quorum: 2")
    project.change_server(
        'scheduler: "SyncScheduler"', 'scheduler: "SyncScheduler"\n  scheduler_kwargs: {clients_per_round: 1}'
    )
    found = project.only()
    assert "more than the 1 clients that a round has" in found.message
    assert "clients_per_round" in found.hint


@pytest.mark.parametrize(
    ("block", "scheduler", "key", "words"),
    [
        ("on_missing: replace", "SyncScheduler", "on_missing", "Each round has all clients"),
        ("on_missing: replace", "AsyncScheduler", "on_missing", "has no rounds"),
        ("on_missing: wait, retries: 3", "SyncScheduler", "retries", "no effect"),
        ("deadline_seconds: 60, quorum: 1.0", "SyncScheduler", "deadline_seconds", "no effect"),
        ("deadline_seconds: 60, quorum: 2", "SyncScheduler", "deadline_seconds", "no effect"),
    ],
)  # fmt: skip
def test_what_has_no_effect_is_said(
    project: Project, block: str, scheduler: str, key: str, words: str
) -> None:
    give(project, block)
    project.change_server("SyncScheduler", scheduler)
    (found,) = [one for one in project.found() if one.key.endswith(key)]
    assert found.severity is Severity.WARNING
    assert words in found.message


@pytest.mark.parametrize(
    "block",
    ["on_missing: wait", "deadline_seconds: 60", "deadline_seconds: 60, quorum: 1", "retries: {transfer: 3}"],
)
def test_what_makes_sense_passes_in_silence(project: Project, block: str) -> None:
    give(project, block)
    assert not project.found()


def test_the_policy_gets_what_the_block_says(project: Project) -> None:
    give(
        project,
        "quorum: 0.6, deadline_seconds: 60, retries: {transfer: 5, walltime: 3}, retry_seconds: 2, "
        "on_missing: replace, set_aside_after: 4, try_again_seconds: 0, stop_below: 2",
    )
    settings = PolicySettings.of(project.load().server_configs.fault_tolerance_configs)
    assert (settings.quorum, settings.deadline_seconds, settings.on_missing) == (0.6, 60.0, OnMissing.REPLACE)
    assert (settings.set_aside_after, settings.try_again_seconds, settings.stop_below) == (4, 0.0, 2)
    assert settings.retry_seconds == 2.0
    kinds = (
        ErrorClass.TRANSFER,
        ErrorClass.WALLTIME,
        ErrorClass.QUEUE_LIMIT,
        ErrorClass.SERVICE,
        ErrorClass.USER,
    )
    assert [settings.retries_for(kind) for kind in kinds] == [5, 3, 20, 2, 0]


def test_a_number_of_retries_is_for_all_but_what_a_batch_system_says(project: Project) -> None:
    give(project, "retries: 7")
    settings = PolicySettings.of(project.load().server_configs.fault_tolerance_configs)
    kinds = (ErrorClass.TRANSFER, ErrorClass.WORKER_LOST, ErrorClass.WALLTIME, ErrorClass.QUEUE_LIMIT)
    assert [settings.retries_for(kind) for kind in kinds] == [7, 7, 20, 20]


@pytest.mark.parametrize(
    ("quorum", "drawn", "needed"),
    [("0.5", "", 5), ("0.51", "", 6), ("1.0", "", 10), ("1", "", 1), ("0.07", "", 1), ("0.5", "4", 2),
     ("0.5", "0.3", 2), ("2", "4", 2), ("1.0", "0.25", 3)],
)  # fmt: skip
def test_a_quorum_is_of_those_that_a_round_asks_for(
    project: Project, quorum: str, drawn: str, needed: int
) -> None:
    give(project, f"quorum: {quorum}")
    if drawn:
        project.change_server(
            'scheduler: "SyncScheduler"',
            f'scheduler: "SyncScheduler"\n  scheduler_kwargs: {{clients_per_round: {drawn}}}',
        )
    server = project.load().server_configs.model_copy(update={"num_clients": 10})
    assert policy_of(server, [f"c{i}" for i in range(10)]).needed == needed
