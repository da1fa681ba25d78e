"""Errors as a person reads them: sentences on stderr, the user's own frames, a hint; a trace when asked."""

from __future__ import annotations

import traceback
from collections.abc import Iterable
from typing import TYPE_CHECKING

import click

from appfl_gc.cli.exit_codes import ExitCode, of_exception
from appfl_gc.protocol.errors import AppflGcError, ErrorReport
from appfl_gc.protocol.wire import clean_text

if TYPE_CHECKING:
    from appfl_gc.config.diagnostic import Diagnostic

BUG_HINT = "This is a bug in appfl_gc. Please report it with the output of the same command with --debug."


def tell_report(report: ErrorReport, *, debug: bool = False) -> None:
    """Write a failure to stderr: message, the user's frames, the hint; with ``debug`` the trace first."""
    if debug and report.trace:
        click.echo(report.trace.rstrip("\n"), err=True)
    click.echo(clean_text(f"Error: {report}"), err=True)


def tell_exception(error: BaseException, *, debug: bool = False) -> ExitCode:
    """Write an exception to stderr as sentences and return the exit status that it means."""
    if isinstance(error, KeyboardInterrupt | click.Abort):
        click.echo("Interrupted.", err=True)
        return ExitCode.INTERRUPTED
    code = of_exception(error)
    if debug:
        click.echo("".join(traceback.format_exception(error)).rstrip("\n"), err=True)
    if isinstance(error, AppflGcError):
        tell_report(error.report)
    elif code is ExitCode.CANNOT_WRITE and isinstance(error, OSError):
        click.echo(f"Error: {_file_sentence(error)}\nHint: {code.advice}", err=True)
    else:
        words = str(error).strip()
        click.echo(
            f"Error: {type(error).__name__}{': ' + words if words else ''}\nHint: {BUG_HINT}", err=True
        )
    return code


def tell_diagnostics(diagnostics: Iterable[Diagnostic]) -> None:
    """Write configuration errors and warnings to stderr, one paragraph each."""
    for diagnostic in diagnostics:
        click.echo(clean_text(str(diagnostic)), err=True)


def _file_sentence(error: OSError) -> str:
    place = f"{error.filename}" if error.filename else "A file"
    return f"{place} cannot be written: {error.strerror or error}."
