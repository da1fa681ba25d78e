"""The public function: two configuration files in, one trained model out."""

from __future__ import annotations

import contextlib
import logging
import queue
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from appfl_gc.config import Federation
from appfl_gc.protocol.errors import (
    AppflGcError,
    ErrorClass,
    ErrorReport,
    StorageError,
    UsageError,
    UserCodeError,
)
from appfl_gc.protocol.file_name import file_name_part
from appfl_gc.runner.beginning import Beginning, NewRun
from appfl_gc.runner.events import Callback, Outcome, RunFinished
from appfl_gc.runner.federated_run import FederatedRun
from appfl_gc.runner.inbox import Displaced, Inbox, Interrupted
from appfl_gc.runner.interrupt import interrupts_go_to
from appfl_gc.runner.lease import Lease, LeaseHeldError
from appfl_gc.runner.leftovers import empty_stores
from appfl_gc.runner.recorder import Recorder
from appfl_gc.runner.resume.changes import Views, check_unchanged
from appfl_gc.runner.resume.invocation import FILE as INVOCATION
from appfl_gc.runner.resume.invocation import Invocation
from appfl_gc.runner.resume.past import PastRun
from appfl_gc.runner.resume.reading import read_past
from appfl_gc.runner.resume.resumed_run import ResumedRun
from appfl_gc.runner.run_directory import RunDirectory, new_run_id
from appfl_gc.runner.setup import RunOptions, set_up
from appfl_gc.site.user_errors import user_frames

__all__ = ["Callback", "RunResult", "resume", "run"]


def _ignore(words: str) -> None:
    """Hears and does nothing."""


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
    invocation = None
    if server_config is not None and client_config is not None:
        invocation = Invocation.here(
            server_config,
            client_config,
            overrides=overrides,
            strict=strict,
            local=local,
            local_data=local_data,
            enable_server_val=enable_server_val,
            init_model=init_model,
            compute_token=compute_token,
            openid_token=openid_token,
        )
    if federation is None:
        if invocation is None:
            raise UserCodeError("run() needs server_config and client_config, or a loaded federation.")
        federation = invocation.federation()
    options = RunOptions(local, enable_server_val, compute_token, openid_token)
    now = time.localtime()
    server = federation.server_configs
    parent = Path(server.logging_output_dirname)
    directory = RunDirectory.create(parent, new_run_id(now))
    if invocation is not None:
        invocation.save(directory.path)
    stamp = time.strftime("%Y-%m-%d-%H-%M-%S", now)
    published = directory.path / f"{file_name_part(server.logging_output_filename)}_Server_{stamp}.txt"
    beginning = NewRun(directory, None if init_model is None else Path(init_model))
    with _served(directory, callbacks, published, _ignore) as (recorder, inbox, lease):
        return _run_in(federation, options, directory, recorder, inbox, lease, beginning)


def resume(
    run_dir: str | Path,
    *,
    server_config: str | Path | None = None,
    client_config: str | Path | None = None,
    callbacks: Iterable[Callback] = (),
    overrides: Sequence[str] = (),
    compute_token: str | None = None,
    openid_token: str | None = None,
    federation: Federation | None = None,
    tell: Callable[[str], None] = _ignore,
) -> RunResult:
    """Go on with a run whose server was killed, interrupted, or ended because too few clients were left.

    Finished rounds stay, updates that have arrived are used, calls in flight are attached to or sent again. A
    synchronous seeded run ends with the same bits as one that was never interrupted.

    Args:
        run_dir: the run's directory.
        server_config, client_config: where the YAML files are now, if not where they were.
        callbacks: hear every event of the run from here on.
        overrides: ``KEY=VALUE`` on top of the files and of the overrides that the run was started with.
        compute_token, openid_token: as for ``run``, in place of those that it was started with.
        federation: the configuration, loaded already.
        tell: hears sentences before there are events: that it waits to see whether another host runs the run.

    Returns:
        As ``run``; of a run that was finished already, its result.

    Raises:
        UsageError: the directory is no run's; another server has it; the configuration has changed in what may not.
        ConfigError: the configuration is wrong.
        AppflGcError: the run could not go on.
    """
    directory = RunDirectory(Path(run_dir).absolute())
    if not directory.journal.is_file():
        read_past(directory)
    with _served(directory, callbacks, None, tell) as (recorder, inbox, lease):
        past = read_past(directory)
        if past.finished:
            return _finished(directory, past, recorder, tell)
        if not past.began:
            raise UsageError(
                f"The run {directory.path} was ended before it had begun; there is nothing to go on with.",
                "Start it again with `appfl-gc run`.",
            )
        invocation = None
        if federation is None or (directory.path / INVOCATION).is_file():
            invocation = Invocation.again(
                directory.path,
                server_config=server_config,
                client_config=client_config,
                overrides=overrides,
                compute_token=compute_token,
                openid_token=openid_token,
            )
        with contextlib.nullcontext() if invocation is None else invocation.in_its_directory():
            views: Views = ()
            if federation is None and invocation is not None:
                found = invocation.examine()
                federation, views = found.federation or invocation.federation(), found.views
            if federation is None:
                raise UserCodeError("resume() needs the run's YAML files, or a loaded federation.")
            check_unchanged(past, federation, views)
            options = RunOptions() if invocation is None else RunOptions.of(invocation)
            return _run_in(federation, options, directory, recorder, inbox, lease, ResumedRun(past))


def _finished(
    directory: RunDirectory, past: PastRun, recorder: Recorder, tell: Callable[[str], None]
) -> RunResult:
    """The result of a run that was done; what its server was killed before is done now."""
    try:
        empty_stores(directory.path, recorder.logger.info)
    except AppflGcError as error:
        tell(f"What the run left in a store could not be removed. {error}")
    if directory.last.exists():  # what stands there may be of an interrupt before
        directory.keep_model(directory.last, directory.model)
    directory.clear_payloads()
    outcome = Outcome.PARTIAL if past.set_aside else Outcome.FINISHED
    model = directory.model if directory.model.exists() else None
    return RunResult(outcome, model, past.rounds.metrics, directory.path, past.rounds.rounds)


@contextlib.contextmanager
def _served(
    directory: RunDirectory,
    callbacks: Iterable[Callback],
    published: Path | None,
    tell: Callable[[str], None],
) -> Iterator[tuple[Recorder, Inbox, Lease]]:
    """What a run needs while this process serves it, whatever becomes of it."""
    inbox: Inbox = queue.SimpleQueue()
    lease = Lease(
        directory.path,
        lambda why: inbox.put(Displaced(why)),
        stop=lambda why: inbox.put(Interrupted(why)),
        tell=tell,
    )
    with lease:
        recorder = Recorder(directory, published, callbacks)
        try:
            yield recorder, inbox, lease
        finally:
            recorder.close()


def _run_in(
    federation: Federation,
    options: RunOptions,
    directory: RunDirectory,
    recorder: Recorder,
    inbox: Inbox,
    lease: Lease,
    beginning: Beginning,
) -> RunResult:
    started = time.monotonic()
    for warning in federation.warnings:
        recorder.log(str(warning), logging.WARNING)
    with contextlib.ExitStack() as stack:
        stack.enter_context(interrupts_go_to(inbox))
        try:
            parts = set_up(federation, options, directory, recorder, inbox, stack, lease.confirm, beginning)
        except AppflGcError as error:
            recorder.logger.error("The run did not begin. %s", error)
            raise
        except OSError as error:
            raise _storage_error(error) from error
        federated = FederatedRun(parts, started=beginning.started)
        ending, rounds = federated.ending, parts.rounds
        try:
            federated.execute(partial(beginning.recover, federated, parts))
            if rounds.done and not ending.displaced:
                directory.keep_model(directory.last, directory.model)
        except LeaseHeldError as error:
            ending.outcome, ending.error, ending.displaced = Outcome.FAILED, error.report, True
        except Exception as error:  # noqa: BLE001  whatever it is, what was trained before is saved and told
            ending.outcome, ending.error = Outcome.FAILED, _report(error)
        try:
            federated.leave()
        except LeaseHeldError as error:
            ending.outcome, ending.error, ending.displaced = Outcome.FAILED, error.report, True
            federated.leave()
        except OSError as error:
            recorder.log(str(_storage_error(error)), logging.ERROR)
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
