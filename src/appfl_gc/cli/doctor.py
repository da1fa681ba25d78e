"""``appfl-gc doctor``: check a configuration against logins, endpoints, limits and networks."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, TextIO

import click

from appfl_gc.cli.closed_pipe import plain_console
from appfl_gc.cli.exit_codes import ExitCode, of_class
from appfl_gc.cli.failure import tell_diagnostics
from appfl_gc.cli.program import Program
from appfl_gc.cli.stdout_owner import owned_stdout
from appfl_gc.cli.token_options import token_options
from appfl_gc.protocol.errors import ErrorClass, NotSupportedError

if TYPE_CHECKING:
    from appfl_gc.config import Federation
    from appfl_gc.runner.doctor.row import Row

PIPE_WIDTH = 140
# What the configuration's owner must change comes before what may pass by itself.
_FIRST = (ExitCode.CONFIGURATION, ExitCode.ACCESS, ExitCode.SITE_SOFTWARE, ExitCode.CANNOT_WRITE)


@click.command("doctor", cls=Program, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--server_config",
    "--server-config",
    required=True,
    metavar="FILE",
    help="YAML file with client_configs and server_configs.",
)
@click.option(
    "--client_config", "--client-config", required=True, metavar="FILE", help="YAML file with clients."
)
@click.option("--skip-jobs", is_flag=True, help="Send no job to any endpoint: costs no allocation.")
@click.option(
    "--set", "overrides", metavar="KEY=VALUE", multiple=True, help="Change one value, as `run --set` does."
)
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
@token_options
@click.pass_context
def doctor(
    ctx: click.Context,
    /,
    server_config: str,
    client_config: str,
    skip_jobs: bool,
    overrides: Sequence[str],
    form: str,
    compute_token: str | None,
    openid_token: str | None,
) -> None:
    """Check what a run with two YAML files needs: logins, endpoints, versions, sizes, networks, directories.

    Each failure comes with a fix. The exit status is 0 if nothing would make a run fail, else what it would end with:
    2 configuration, 10 access or login, 9 versions, 7 files, 6 an endpoint offline or the service not reached.
    """
    if not skip_jobs:
        raise NotSupportedError(
            "Checks that send a job to each endpoint are not supported yet.",
            "--skip-jobs makes all other checks.",
        )
    with owned_stdout() as stdout:
        files, tokens = (server_config, client_config), (compute_token, openid_token)
        status = _examine(files, overrides, tokens, as_json=form == "json", stdout=stdout)
    ctx.exit(status)


def _examine(
    files: tuple[str, str],
    overrides: Sequence[str],
    tokens: tuple[str | None, str | None],
    *,
    as_json: bool,
    stdout: TextIO,
) -> ExitCode:
    from appfl_gc.config import examine as examine_files

    found = examine_files(*files, overrides=overrides)
    tell_diagnostics(found.diagnostics)
    rows: list[Row] = []
    if found.federation is not None:
        rows = _rows(found.federation, tokens)
    status = ExitCode.CONFIGURATION if found.federation is None else exit_code_of(rows)
    if as_json:
        from appfl_gc.report.diagnosis import diagnosis_json

        diagnostics = [diagnostic.to_json() for diagnostic in found.diagnostics]
        document = {**diagnosis_json(rows, status), "diagnostics": diagnostics}
        stdout.write(json.dumps(document, indent=2) + "\n")
    elif found.federation is not None:
        _show(rows, stdout)
    return status


def exit_code_of(rows: Iterable[Row]) -> ExitCode:
    """What a run would end with; 0 if no row fails."""
    codes = {
        ExitCode.CONFIGURATION if row.error_class is ErrorClass.USER else of_class(row.error_class)
        for row in rows
        if row.error_class is not None
    }
    return next((code for code in _FIRST if code in codes), min(codes, default=ExitCode.FINISHED))


def _rows(federation: Federation, tokens: tuple[str | None, str | None]) -> list[Row]:
    from appfl_gc.runner.doctor.examination import examine

    with told_on_terminal() as tell:
        return list(examine(federation, tokens, tell))


def _show(rows: Sequence[Row], stdout: TextIO) -> None:

    from appfl_gc.report.diagnosis import print_diagnosis

    console = plain_console(stdout)
    if not console.is_terminal:
        console.width = max(console.width, PIPE_WIDTH)
    print_diagnosis(console, rows)


@contextlib.contextmanager
def told_on_terminal() -> Iterator[Callable[[str], None]]:
    """Yield what shows a few words on stderr while it lasts, if that is a terminal."""
    from rich.console import Console

    console = Console(stderr=True, markup=False, highlight=False)
    if not console.is_terminal or console.is_dumb_terminal:
        yield lambda _: None
        return
    with console.status("Starting ...") as status:
        yield lambda words: status.update(f"{words[:1].upper()}{words[1:]} ...")
