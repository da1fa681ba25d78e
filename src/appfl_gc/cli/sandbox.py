"""``appfl-gc sandbox``: a Globus Compute service on this machine, for which nobody needs an account."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click

from appfl_gc.cli.program import Program
from appfl_gc.cli.sandbox_command import end_politely, run_command
from appfl_gc.cli.sandbox_endpoints import bring_up
from appfl_gc.protocol.errors import UsageError
from appfl_gc.sandbox.errors import SandboxError
from appfl_gc.sandbox.files import SandboxFiles
from appfl_gc.sandbox.leftovers import end_endpoints
from appfl_gc.sandbox.sandbox import Sandbox
from appfl_gc.sandbox.settings import SandboxSettings

Function = TypeVar("Function", bound=Callable[..., Any])

DIRECTORY = click.option(
    "--directory",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where it keeps all its files.  [default: that of this shell's sandbox, else ~/.appfl_gc/sandbox]",
)


def _knobs(function: Function) -> Function:
    defaults = SandboxSettings()
    options = (
        click.option("--endpoints", type=click.IntRange(0, 16), default=2, show_default=True,
                     help="Bring up so many real agents of the facility `local`."),
        click.option("--heartbeat", type=click.IntRange(5), default=5, show_default=True,
                     help="Seconds between the heartbeats of these endpoints."),
        click.option("--payload-limit", type=click.IntRange(1), default=defaults.payload_limit_bytes,
                     show_default=True, help="Bytes of the largest submit request."),
        click.option("--requests", type=click.IntRange(0), default=defaults.requests, show_default=True,
                     help="Requests of one identity in 10 s; 0 for no limit."),
        click.option("--lost-after", type=click.FloatRange(0, min_open=True), show_default=True,
                     default=defaults.lost_after_seconds,
                     help="Seconds of silence after which an endpoint's tasks fail."),
    )  # fmt: skip
    for option in reversed(options):
        function = option(function)
    return function


@click.group("sandbox", context_settings={"help_option_names": ["-h", "--help"]})
def sandbox() -> None:
    """Run a Globus Compute service on this machine: real SDK, real agents, no account.

    It listens on loopback only and keeps every file in one directory.
    """


@sandbox.command("up", cls=Program)
@DIRECTORY
@_knobs
def up(directory: Path | None, endpoints: int, heartbeat: int, **knobs: Any) -> None:
    """Start a sandbox and print what to export: eval "$(appfl-gc sandbox up)"."""
    with _told():
        started = Sandbox.start(_directory(directory), _settings(knobs), stay=True)
        try:
            bring_up(started, endpoints, heartbeat, _say)
        except BaseException:
            started.remove()
            raise
        _print_environment(started)
        where = "" if directory is None else f" --directory {shlex.quote(str(started.files.root))}"
        _say(f"The sandbox runs in {started.files.root}. `appfl-gc sandbox down{where}` ends it.")


@sandbox.command("run", cls=Program, context_settings={"ignore_unknown_options": True})
@DIRECTORY
@_knobs
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def run(
    directory: Path | None, endpoints: int, heartbeat: int, command: tuple[str, ...], **knobs: Any
) -> None:
    """Start a sandbox, run COMMAND in its environment, and end it with all that COMMAND left running.

    The exit status is COMMAND's. Without --directory its files are in a temporary directory and go at the end.
    """
    with (
        _told(),
        end_politely(),
        _place(directory) as place,
        Sandbox.start(place, _settings(knobs)) as started,
    ):
        bring_up(started, endpoints, heartbeat, _say)
        status = run_command(command, started)
    sys.exit(status)


@sandbox.command("status", cls=Program)
@DIRECTORY
@click.option("--environment", is_flag=True, help="Print only what to export.")
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
def status(directory: Path | None, environment: bool, form: str) -> None:
    """Show a sandbox: its service, its endpoints, its tasks."""
    with _told():
        running = _running(directory)
        if environment:
            _print_environment(running)
            return
        state = running.state()
        seen = {
            "directory": str(running.files.root),
            "url": running.description.url,
            "processes": {**running.pids, "endpoints": running.endpoint_pids()},
            "login_key": running.description.login_key,
            "endpoints": state["endpoints"],
            "tasks": len(state["tasks"]),
        }
    if form == "json":
        click.echo(json.dumps(seen))
        return
    click.echo(f"Sandbox in {seen['directory']}, service {seen['url']}, {seen['tasks']} tasks so far.")
    click.echo(f"Key of the login page: {seen['login_key']}")
    for one in state["endpoints"]:
        click.echo(f"{one['id']}  {'online' if one['online'] else 'offline':<7}  {one['name']}")


@sandbox.command("down", cls=Program)
@DIRECTORY
@click.option("--keep", is_flag=True, help="Leave its directory, with its logs.")
def down(directory: Path | None, keep: bool) -> None:
    """End a sandbox: its endpoints, their jobs, its service, its broker and its directory."""
    place = _directory(directory)
    with _told():
        running = Sandbox.attach(place)
        if running is not None:
            running.stop()
        elif not SandboxFiles(place).lock.exists():
            raise UsageError(
                f"There is no sandbox in {place}.", "Give the --directory that it was started with."
            )
        else:
            end_endpoints(place, patience=0)
    if not keep:
        shutil.rmtree(place)
    _say(
        f"The sandbox in {place} has ended. In a shell with its environment: unset http_proxy HTTP_PROXY ..."
    )


def _running(directory: Path | None) -> Sandbox:
    place = _directory(directory)
    running = Sandbox.attach(place)
    if running is None:
        raise UsageError(f"No sandbox runs in {place}.", "`appfl-gc sandbox up` starts one.")
    return running


def _directory(given: Path | None) -> Path:
    """The directory that was given, else that of this shell's sandbox, else the default."""
    agents = os.environ.get("GLOBUS_COMPUTE_USER_DIR")
    if given is None and agents and SandboxFiles(Path(agents).parent).lock.exists():
        return Path(agents).parent.resolve()
    return (given or Path.home() / ".appfl_gc" / "sandbox").expanduser().resolve()


@contextmanager
def _place(given: Path | None) -> Iterator[Path]:
    if given is not None:
        yield _directory(given)
        return
    with tempfile.TemporaryDirectory(prefix="appfl-gc-sandbox-", ignore_cleanup_errors=True) as place:
        yield Path(place)


def _settings(knobs: dict[str, Any]) -> SandboxSettings:
    return SandboxSettings(
        payload_limit_bytes=knobs["payload_limit"],
        requests=knobs["requests"],
        lost_after_seconds=knobs["lost_after"],
    )


def _print_environment(running: Sandbox) -> None:
    for name, value in running.environment.items():
        click.echo(f"export {name}={shlex.quote(value)}")


def _say(text: str) -> None:
    click.echo(text, err=True)


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except SandboxError as error:
        raise UsageError(error.message, error.hint) from None
