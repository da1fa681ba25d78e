"""Failures in the user's terms: class, client, endpoint, task, next step; hostile text stays text."""

from __future__ import annotations

import copyreg
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appfl_gc.control.globus_compute.failing import failures
from appfl_gc.control.globus_compute.failing.failures import LONGEST_QUOTE, Place
from appfl_gc.control.globus_compute.identity.application import Application
from appfl_gc.control.globus_compute.rest.turnstile import ClosingError
from appfl_gc.control.message import ReplyError
from appfl_gc.protocol.errors import ErrorClass

PLACE = Place("A", "11111111-2222-4333-8444-555555555555", Application("id", "s3cret", "the test"), "task-7")
NAMED = "(client A, endpoint 11111111-2222-4333-8444-555555555555, task task-7)"
TRACE = "+++\nTraceback (most recent call last):\n  File x, line 1, in y\n"


@pytest.mark.parametrize(
    ("text", "error_class", "words"),
    [
        ("Ignoring start request for untrusted identity.\n  Globus effective identity: x", "endpoint", "the test"),
        ("Identity failed to map to a local user name.  (LookupError) ", "endpoint", "refuses this identity"),
        ("Unable to start user endpoint process for u [exit code: 73; (UndefinedError) 'q' is undefined]",
         "start_failed", "'q' is undefined"),
        ("Failed to start or unexpected error: (ClickException) 'HighThroughputEngine' is not a valid engine.",
         "start_failed", "not a valid engine"),
        (TRACE + "parsl.errors.BadStateException: Executor failed due to: qsub: not found", "start_failed", "qsub"),
        (TRACE + "parsl.executors.high_throughput.errors.WorkerLost: Task failure due to loss of worker 0 on host n",
         "worker_lost", "worker was lost"),
        (TRACE + "parsl.executors.high_throughput.errors.ManagerLost: Task failure due to loss of manager m",
         "manager_lost", "manager was lost"),
        (TRACE + "concurrent.futures.process.BrokenProcessPool: A process in the process pool was terminated",
         "worker_lost", "worker was lost"),
        ("User endpoint u stopped sending heartbeats.", "manager_lost", "manager was lost"),
        ("slurmstepd: error: *** JOB 66 ON nid1 CANCELLED AT 2026-11-22T10:00:00 DUE TO TIME LIMIT ***",
         "walltime", "reached its walltime"),
        (TRACE + "ManagerLost: loss of manager m\n=>> PBS: job killed: walltime 3605 exceeded limit 3600",
         "walltime", "reached its walltime"),
        (TRACE + "BadStateException: Executor failed due to: Job 7 ended with JobState.TIMEOUT",
         "walltime", "reached its walltime"),
        (TRACE + "BadStateException: Executor failed due to: qsub: would exceed queue debug's per-user limit of "
         "jobs in 'Q' state", "queue_limit", "no more jobs"),
        ("Cannot launch job: qsub: would exceed complex's per-user limit", "queue_limit", "no more jobs"),
        ("qsub: would exceed group xg25's limit on resource njobs-g in complex", "queue_limit", "no more jobs"),
        ("sbatch: error: QOSMaxSubmitJobPerUserLimit\nsbatch: error: Batch job submission failed: Job violates "
         "accounting/QOS policy (job submit limit, user's size and/or time limits)", "queue_limit", "no more jobs"),
        ("sbatch: error: AssocMaxSubmitJobLimit", "queue_limit", "no more jobs"),
        ("sbatch: error: AssocGrpSubmitJobsLimit", "queue_limit", "no more jobs"),
        ("sbatch: error: Batch job submission failed: Job violates accounting/QOS policy (job submit limit, user's "
         "size and/or time limits)", "queue_limit", "no more jobs"),
        ("sbatch: error: QOSMaxWallDurationPerJobLimit\nsbatch: error: Batch job submission failed: Job violates "
         "accounting/QOS policy", "start_failed", "jobs of this size"),
        ("sbatch: error: QOSMaxCpuPerJobLimit\nsbatch: error: Job violates accounting/QOS policy", "start_failed",
         "jobs of this size"),
        ("qsub: Job violates queue and/or server resource limits", "start_failed", "jobs of this size"),
        ("Failed to start: (ValidationError) walltime: '1:00' does not match the schema", "start_failed", "schema"),
        ("The user endpoint that had taken this task has ended; another one was started.", "worker_lost", "stopped"),
        (TRACE + "MaxResultSizeExceeded: Task result of 10671948B exceeded current limit of 10485760B",
         "protocol", "larger than its endpoint carries"),
        (TRACE + "globus_compute_sdk.errors.error_types.DeserializationError: Invalid header: st in data payload",
         "version", "can't read the call"),
        ("Another instance of this endpoint is running. (Perhaps on another login node?)", "start_failed",
         "still counts a user endpoint that was killed"),
        ("Function f not permitted on endpoint e", "endpoint", "does not allow this function"),
        (TRACE + "OSError: [Errno 1] Operation not permitted: '/eagle/x'", "service", "Operation not permitted"),
        ("sbatch: error: Account not permitted to use this partition", "service", "Account not permitted"),
        (TRACE + "OSError: [Errno 28] No space left on device", "service", "No space left on device"),
    ],
)  # fmt: skip
def test_what_agents_and_engines_say(text: str, error_class: str, words: str) -> None:
    error = failures.of_task(text, PLACE)
    assert error.error_class is ErrorClass(error_class)
    assert words in error.message and error.message.endswith(NAMED) and error.hint


@given(st.text(max_size=3000))
def test_any_text_makes_a_short_printable_message(text: str) -> None:
    error = failures.of_task(text, PLACE)
    assert error.message.isprintable() and len(error.message) < LONGEST_QUOTE + 500
    assert NAMED in error.message and error.hint


def test_escape_sequences_do_not_survive() -> None:
    hostile = "\x1b[2J\x1b]0;owned\x07" + "x" * 1_000_000
    for error in (
        failures.of_task(hostile, PLACE),
        failures.of_submission(RuntimeError(hostile), PLACE),
    ):
        assert not re.search(r"[\x00-\x1f\x7f-\x9f]", str(error.message))
        assert len(error.message) < LONGEST_QUOTE + 500


def test_every_kind_of_loss_names_the_place_and_the_next_step() -> None:
    for error in (
        failures.too_large(12, 10, PLACE),
        failures.of_reply(ReplyError("It is not JSON."), PLACE),
        failures.unreachable_for(3, PLACE),
        failures.endpoint_silent(3, PLACE),
        failures.user_endpoint_silent(3, "uep", PLACE),
        failures.of_submission(ConnectionError("no route"), PLACE),
    ):
        assert NAMED in error.message
        assert error.hint or error.error_class is ErrorClass.SERVICE
        assert "s3cret" not in str(error)


def test_a_place_is_named_once_and_the_original_stays_as_it_is() -> None:
    error = ClosingError()
    named = failures.located(failures.located(error, PLACE), PLACE)
    assert named.message.count("client A") == 1 and type(named) is ClosingError
    assert "client A" not in error.message


def test_a_library_that_makes_exceptions_picklable_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(copyreg.dispatch_table, ClosingError, lambda error: (_the_same, (error,)))
    error = ClosingError()
    failures.located(error, PLACE)
    assert "client A" not in error.message


def _the_same(error: ClosingError) -> ClosingError:
    return error
