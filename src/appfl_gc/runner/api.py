"""The public function: two configuration files in, one trained model out."""

from __future__ import annotations

import contextlib
import logging
import queue
import time
import traceback
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from appfl_gc.config import Federation, load
from appfl_gc.protocol.errors import (
    AppflGcError,
    ErrorClass,
    ErrorReport,
    StorageError,
    UserCodeError,
)
from appfl_gc.protocol.file_name import file_name_part
from appfl_gc.runner.events import Callback, Outcome, RunFinished
from appfl_gc.runner.federated_run import FederatedRun
from appfl_gc.runner.inbox import Inbox
from appfl_gc.runner.interrupt import interrupts_go_to
from appfl_gc.runner.recorder import Recorder
from appfl_gc.runner.run_directory import RunDirectory, new_run_id
from appfl_gc.runner.setup import RunOptions, set_up
from appfl_gc.site.user_errors import user_frames

__all__ = ["Callback", "RunResult", "run"]


@dataclass(frozen=True)
class RunResult:
    """What a run has led to.

    Attributes:
        outcome: how it ended.
        model_path: the final model, a safetensors file; None if there is none.
        metrics: of the last round.
        run_dir: everything else.
        rounds: aggregations done.
        error: why the run failed, or None.
        set_aside: clients that were set aside, with the reason.
    """

    outcome: Outcome
    model_path: Path | None
    metrics: Mapping[str, float]
    run_dir: Path
    rounds: int = 0
    error: ErrorReport | None = None
    set_aside: Mapping[str, ErrorReport] = field(default_factory=dict)


def run(
    server_config: str | Path | None = None,
    client_config: str | Path | None = None,
    *,
    callbacks: Iterable[Callback] = (),
    overrides: Sequence[str] = (),
    strict: bool = False,
    local: bool = False,
    local_data: Mapping[str, str] | None = None,
    enable_server_val: bool = False,
    init_model: str | Path | None = None,
    compute_token: str | None = None,
    openid_token: str | None = None,
    federation: Federation | None = None,
) -> RunResult:
    """Train one model over all clients of the two configuration files.

    Args:
        server_config: path of the server's YAML file.
        client_config: path of the clients' YAML file.
        callbacks: hear every event of the run.
        overrides: ``KEY=VALUE`` on top of the files.
        strict: unknown keys are errors.
        local: rehearse on this machine: every endpoint becomes ``local``, an absent device the CPU.
        local_data: for a rehearsal, ``NAME`` to ``FILE.py:FUNCTION``: dataset functions in place of the sites'.
        enable_server_val: insist on server validation: without ``val_data_configs`` this is an error.
        init_model: safetensors file to start from instead of initial weights.
        compute_token: name of an environment variable, or of a file of mode 0600, with a token for Globus Compute,
            for clients without ``credentials``; a login is better, for a token is not renewed.
        openid_token: likewise with a token for Globus Auth, which tells whose the other is.
        federation: a configuration that is loaded already, in place of the two paths.

    Returns:
        The result, also for a run that failed or was interrupted after it began; then ``error`` says why.

    Raises:
        ConfigError: the configuration is wrong; nothing was started.
        AppflGcError: the run could not begin: model, data or directory can't be had, a feature is not built yet.
    """
    if federation is None:
        if server_config is None or client_config is None:
            raise UserCodeError("run() needs server_config and client_config, or a loaded federation.")
        federation = load(
            server_config,
            client_config,
            overrides=overrides,
            strict=strict,
            local=local,
            local_data=local_data or {},
        )
    options = RunOptions(
        local,
        enable_server_val,
        None if init_model is None else Path(init_model),
        compute_token,
        openid_token,
    )
    started = time.monotonic()
    now = time.localtime()
    server = federation.server_configs
    parent = Path(server.logging_output_dirname)
    directory = RunDirectory.create(parent, new_run_id(now))
    stamp = time.strftime("%Y-%m-%d-%H-%M-%S", now)
    published = directory.path / f"{file_name_part(server.logging_output_filename)}_Server_{stamp}.txt"
    recorder = Recorder(directory, published, callbacks)
    try:
        return _run_in(federation, options, directory, recorder, started)
    finally:
        recorder.close()


def _run_in(
    federation: Federation, options: RunOptions, directory: RunDirectory, recorder: Recorder, started: float
) -> RunResult:
    for warning in federation.warnings:
        recorder.log(str(warning), logging.WARNING)
    inbox: Inbox = queue.SimpleQueue()
    with contextlib.ExitStack() as stack:
        stack.enter_context(interrupts_go_to(inbox))
        try:
            parts = set_up(federation, options, directory, recorder, inbox, stack)
        except AppflGcError as error:
            recorder.logger.error("The run did not begin. %s", error)
            raise
        except OSError as error:
            raise _storage_error(error) from error
        federated = FederatedRun(parts)
        ending, rounds = federated.ending, parts.rounds
        try:
            federated.execute()
            if rounds.done:
                directory.keep_model(directory.last, directory.model)
        except Exception as error:  # noqa: BLE001  whatever it is, what was trained before is saved and told
            ending.outcome, ending.error = Outcome.FAILED, _report(error)
    outcome = ending.outcome or Outcome.FAILED
    if outcome in (Outcome.FINISHED, Outcome.PARTIAL):
        directory.clear_payloads()
    model = next((path for path in (directory.model, directory.last) if path.exists()), None)
    seconds = time.monotonic() - started
    recorder.tell(
        RunFinished(outcome, directory.path, model, rounds.last, seconds, rounds.done, ending.error)
    )
    return RunResult(outcome, model, rounds.last, directory.path, rounds.done, ending.error, ending.set_aside)


def _report(error: Exception) -> ErrorReport:
    """``error`` for the user, with the frames in the user's files where it comes from there."""
    if isinstance(error, OSError):
        error = _storage_error(error)
    trace = "".join(traceback.format_exception(error))
    if isinstance(error, AppflGcError):
        return replace(error.report, frames=user_frames(error), trace=trace)
    return ErrorReport(ErrorClass.INTERNAL, f"The run failed: {error!r}.", "", user_frames(error), trace)


def _storage_error(error: OSError) -> StorageError:
    place = f" {error.filename}" if error.filename else ""
    return StorageError(
        f"The server could not write{place}: {error.strerror or error}.",
        "Make room or choose another logging_output_dirname; what was saved before is intact.",
    )
