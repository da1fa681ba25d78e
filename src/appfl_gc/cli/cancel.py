"""``appfl-gc cancel``: end a run, wherever its server is, and stop what its sites still compute."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from appfl_gc.cli.program import Program
from appfl_gc.protocol.errors import DeliveryError
from appfl_gc.runner.lease import Holder, Lease, holder, request_stop, written
from appfl_gc.runner.leftovers import empty_stores

if TYPE_CHECKING:
    from appfl_gc.runner.resume.past import PastRun

LOOK_EVERY = 0.2


@click.command(
    "cancel",
    cls=Program,
    short_help="End a run and stop what its sites still compute.",
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.argument("run_dir", metavar="RUN_DIR", type=click.Path(path_type=Path))
@click.option(
    "--wait",
    "seconds",
    metavar="SECONDS",
    type=click.FloatRange(min=0),
    default=120.0,
    show_default=True,
    help="How long to wait until the run's server has ended it; with 0 it is only asked to.",
)
def cancel(run_dir: Path, seconds: float) -> None:
    """End a run from anywhere that sees its directory, as Ctrl-C does where it runs.

    Its sites stop at their next step and keep a checkpoint, where they share a store with the server (S3, or a file
    system); `appfl-gc resume RUN_DIR` goes on from there. If the run's server is dead, this does for it what can
    still be done, and says what can't.
    """
    from appfl_gc.runner.events import Outcome
    from appfl_gc.runner.journal import Journal
    from appfl_gc.runner.resume.reading import read_past
    from appfl_gc.runner.run_directory import RunDirectory

    directory = RunDirectory(run_dir.absolute())
    past = read_past(directory)
    if past.over:
        click.echo("The run is finished; there is nothing to cancel.")
        return
    server = holder(directory.path, _tell)
    if server is not None:
        _tell(f"Asking {server} to end the run ...")
        request_stop(directory.path, server)
        if seconds == 0:
            return
        if _end(directory.path, server, seconds):
            click.echo(f"The run {run_dir} has ended. `appfl-gc resume {run_dir}` goes on with it.")
            return
    with Lease(directory.path, _tell, tell=_tell) as lease:
        past = read_past(directory)
        if past.began:
            # First: whoever goes on with the run sends calls that were stopped again, and does not wait for them.
            with Journal(directory.journal, past.last, lease.confirm) as journal:
                journal.append(past.seconds, "finished", outcome=Outcome.INTERRUPTED.value)
        _stop_sites(past)
        empty_stores(directory.path, click.echo)
    if past.began:
        click.echo(f"No server runs {run_dir} any more. `appfl-gc resume {run_dir}` goes on with it.")
    else:
        click.echo(f"No server runs {run_dir} any more. It had not begun, so there is nothing to go on with.")


def _end(directory: Path, server: Holder, seconds: float) -> bool:
    """Wait until the run's server has ended it, as it was asked to; False if it died instead.

    Raises:
        DeliveryError: if it has not ended after ``seconds``.
    """
    until = time.monotonic() + seconds
    while True:
        now = written(directory)
        if now is None or now.over or now.token != server.token:
            return True
        if now.process.ended:
            return False
        if time.monotonic() >= until:
            raise DeliveryError(
                f"The run {directory} has not ended after {seconds:.0f} s. It is asked to, and ends when {server} "
                "looks.",
                "Look into server.log there; perhaps its file system hangs. SIGKILL loses nothing: `appfl-gc resume` "
                "goes on.",
            )
        time.sleep(LOOK_EVERY)


def _stop_sites(past: PastRun) -> None:
    """Take away the marks of calls in flight, and say for which there is none."""
    from appfl_gc.payload.mailbox.file import remove_mailboxes

    if past.directory.payloads.is_dir():
        remove_mailboxes(past.directory.payloads)
    for client, call in past.open.items():
        if call.failed:
            continue
        told = isinstance(call.fields.get("mailbox"), dict)
        end = (
            "stops at its site's next step, if it still runs."
            if told
            else "can't be stopped: its site shares no store with the server that has marks (S3, or a file system). "
            "If it still runs, it runs to its end, and its result is not fetched."
        )
        click.echo(f"Client {client}, round {call.update.dispatch}: the call {end}")


def _tell(words: str) -> None:
    click.echo(words, err=True)
