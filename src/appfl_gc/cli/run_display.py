"""A run on the terminal: live display, plain lines or JSON, the closing summary, and the exit status."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import click

from appfl_gc.cli.closed_pipe import plain_console
from appfl_gc.cli.exit_codes import ExitCode, of_exception, of_outcome
from appfl_gc.cli.failure import tell_diagnostics, tell_report
from appfl_gc.cli.login_node import login_node_warning
from appfl_gc.cli.stdout_owner import owned_stdout
from appfl_gc.protocol.errors import AppflGcError

if TYPE_CHECKING:
    from rich.console import Console

    from appfl_gc.config import Federation
    from appfl_gc.protocol.wire import Json
    from appfl_gc.report.json_lines import JsonLines
    from appfl_gc.report.live import LiveDisplay
    from appfl_gc.report.plain import PlainDisplay
    from appfl_gc.runner.api import RunResult
    from appfl_gc.runner.events import Callback, RunFinished

    Display: TypeAlias = LiveDisplay | PlainDisplay | JsonLines
    Load: TypeAlias = Callable[[], Federation]
    Train: TypeAlias = Callable[[Federation, Sequence[Callback]], RunResult]

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class Output:
    """How a command shows a run: what ``output_options`` parse."""

    output_format: str
    plain: bool
    debug: bool
    quiet: bool

    @property
    def level(self) -> int:
        """Of the log lines that are shown."""
        return logging.DEBUG if self.debug else logging.INFO


def output_options(command: F) -> F:
    """Add ``--format``, ``--plain``, ``--debug`` and ``--quiet`` to a click command."""
    options = (
        click.option(
            "--format",
            "output_format",
            type=click.Choice(["text", "json"]),
            default="text",
            show_default=True,
            help="json: one object a line on stdout; people read stderr.",
        ),
        click.option("--plain", is_flag=True, help="Plain lines even on a terminal."),
        click.option(
            "--debug", is_flag=True, help="Show the full trace of errors and debug lines of the log."
        ),
        click.option("-q", "--quiet", is_flag=True, help="Only warnings, failures and the closing summary."),
    )
    for option in reversed(options):
        command = option(command)
    return command


def show(output: Output, load: Load, train: Train) -> int:
    """Load a configuration, train with it, show both, and return the exit status.

    Args:
        output: how.
        load: the configuration; raises ``ConfigError``. Before it returns nothing imports torch.
        train: the run, given the configuration and who hears its events.
    """
    show_it = _show_json if output.output_format == "json" else _show_text
    return show_it(output, load, train)


def _show_text(output: Output, load: Load, train: Train) -> int:
    from appfl_gc.report.live import LiveDisplay
    from appfl_gc.report.plain import PlainDisplay

    federation = _loaded(load)
    if federation is None:
        return ExitCode.CONFIGURATION
    console = plain_console()
    if console.is_terminal and not console.is_dumb_terminal and not output.plain and not output.quiet:
        tell_diagnostics(federation.warnings)  # plain lines have them among the run's own log lines
        return _train(output, federation, train, [LiveDisplay(console)], console)
    plain = PlainDisplay(sys.stdout, level=output.level, quiet=output.quiet)
    return _train(output, federation, train, [plain], console)


def _show_json(output: Output, load: Load, train: Train) -> int:
    from appfl_gc.report.json_lines import JsonLines
    from appfl_gc.report.plain import PlainDisplay

    with owned_stdout() as stdout:
        lines = JsonLines(stdout, exit_code=_exit_code_of, debug=output.debug)
        try:
            federation = _loaded(load, lines)
            if federation is None:
                return ExitCode.CONFIGURATION
            plain = PlainDisplay(sys.stderr, level=output.level, quiet=output.quiet)
            console = plain_console(sys.stderr)
            return _train(output, federation, train, [lines, plain], console)
        except (Exception, KeyboardInterrupt) as error:
            lines.ended_by(of_exception(error), [_as_json(error)])
            raise


def _loaded(load: Load, lines: JsonLines | None = None) -> Federation | None:
    """The configuration; its errors are told, and ``None`` returned."""
    from appfl_gc.config import ConfigError

    try:
        federation = load()
    except ConfigError as error:
        tell_diagnostics(error.diagnostics)
        if lines is not None:
            lines.ended_by(ExitCode.CONFIGURATION, [found.to_json() for found in error.diagnostics])
        return None
    if any(client.endpoint_id == "local" for client in federation.clients):
        warning = login_node_warning(socket.gethostname(), os.environ, shutil.which)
        if warning:
            click.echo(warning, err=True)
    return federation


def _train(
    output: Output,
    federation: Federation,
    train: Train,
    displays: Sequence[Display],
    console: Console,
) -> int:
    """Run it; the closing summary goes to ``console`` after the displays have freed it."""
    from appfl_gc.report.summary import Summary

    with _told_on_terminal("Loading torch ..."):
        import appfl_gc.runner.api  # noqa: F401  it takes seconds
    summary = Summary(console)
    try:
        with contextlib.ExitStack() as stack:
            for display in displays:
                stack.enter_context(display)
            result = train(federation, [*displays, summary])
    except KeyboardInterrupt:
        summary.stopped()
        raise
    if result.error is not None:
        tell_report(result.error, debug=output.debug)
    return of_outcome(result.outcome, None if result.error is None else result.error.error_class)


@contextlib.contextmanager
def _told_on_terminal(words: str) -> Iterator[None]:
    """Show ``words`` on stderr while it lasts, if that is a terminal."""
    from rich.console import Console

    console = Console(stderr=True, markup=False, highlight=False)
    if not console.is_terminal or console.is_dumb_terminal:
        yield
        return
    with console.status(words):
        yield


def _as_json(error: BaseException) -> dict[str, Json]:
    if isinstance(error, AppflGcError):
        return {name: value for name, value in error.report.to_json().items() if name != "trace"}
    return {"message": str(error) or type(error).__name__}


def _exit_code_of(end: RunFinished) -> int:
    return of_outcome(end.outcome, None if end.error is None else end.error.error_class)
