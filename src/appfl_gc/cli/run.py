"""The command ``appfl-gc run``. torch is imported after the configuration is found to be right."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import socket
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, TypeAlias

import click

from appfl_gc.cli.closed_pipe import plain_console
from appfl_gc.cli.exit_codes import ExitCode, of_exception, of_outcome
from appfl_gc.cli.failure import tell_diagnostics, tell_report
from appfl_gc.cli.login_node import login_node_warning
from appfl_gc.cli.program import Program
from appfl_gc.cli.stdout_owner import owned_stdout
from appfl_gc.cli.token_options import token_options
from appfl_gc.protocol.errors import AppflGcError

if TYPE_CHECKING:
    from rich.console import Console

    from appfl_gc.config import Federation
    from appfl_gc.protocol.wire import Json
    from appfl_gc.report.json_lines import JsonLines
    from appfl_gc.report.live import LiveDisplay
    from appfl_gc.report.plain import PlainDisplay
    from appfl_gc.runner.events import RunFinished

    Display: TypeAlias = LiveDisplay | PlainDisplay | JsonLines

DEFAULT_SERVER_CONFIG = Path("./resources/config_gc/mnist/server_fedcompass.yaml")
DEFAULT_CLIENT_CONFIG = Path("./resources/config_gc/mnist/clients.yaml")


@dataclass(frozen=True)
class RunOptions:
    """The command line of ``run``, parsed."""

    server_config: Path
    client_config: Path
    enable_server_val: bool
    local: bool
    local_data: dict[str, str]
    overrides: tuple[str, ...]
    strict: bool
    output_format: str
    plain: bool
    debug: bool
    quiet: bool
    init_model: Path | None
    compute_token: str | None
    openid_token: str | None


def _pairs(ctx: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    for value in values:
        key, equals, _ = value.partition("=")
        if not equals or not key.strip():
            raise click.BadParameter(f"'{value}' is not of the form {parameter.metavar}.", ctx, parameter)
    return values


def _functions(ctx: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    functions = dict(value.split("=", 1) for value in _pairs(ctx, parameter, values))
    for name, function in functions.items():
        file, colon, attribute = function.rpartition(":")
        if not colon or not file or not attribute.isidentifier():
            raise click.BadParameter(
                f"'{name}={function}' is not of the form {parameter.metavar}.", ctx, parameter
            )
    return functions


def _config_file(ctx: click.Context, parameter: click.Parameter, value: Path | None) -> Path:
    default = DEFAULT_SERVER_CONFIG if parameter.name == "server_config" else DEFAULT_CLIENT_CONFIG
    if value is not None:
        return value
    if default.is_file():
        return default
    raise click.UsageError(
        f"--{parameter.name} is missing, and there is no {default} below this directory.\n"
        "Hint: Name both files, or let `appfl-gc init DIR` write an example.",
        ctx,
    )


@click.command(
    "run",
    cls=Program,
    short_help="Train one model as two YAML files say.",
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.option(
    "--server_config",
    "--server-config",
    "server_config",
    metavar="FILE",
    type=click.Path(path_type=Path),
    callback=_config_file,
    help=f"Server YAML file.  [default: {DEFAULT_SERVER_CONFIG}, if present]",
)
@click.option(
    "--client_config",
    "--client-config",
    "client_config",
    metavar="FILE",
    type=click.Path(path_type=Path),
    callback=_config_file,
    help=f"Client YAML file.  [default: {DEFAULT_CLIENT_CONFIG}, if present]",
)
@click.option(
    "--enable_server_val",
    "--enable-server-val",
    "enable_server_val",
    is_flag=True,
    help="Validate the global model at the server after every round, with val_data_configs.",
)
@click.option(
    "--local", is_flag=True, help="Rehearse: every endpoint becomes a local one, every store `file`."
)
@click.option(
    "--local-data",
    "local_data",
    metavar="NAME=FILE.py:FUNCTION",
    multiple=True,
    callback=_functions,
    help="With --local: the dataset function to use for a client whose data only its site has. Repeatable.",
)
@click.option(
    "--set",
    "overrides",
    metavar="KEY=VALUE",
    multiple=True,
    callback=_pairs,
    help="Override a key, such as server_configs.num_global_epochs=2. Repeatable.",
)
@click.option("--strict", is_flag=True, help="Unknown keys and keys without effect are errors.")
@click.option(
    "--format",
    "output_format",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="json: one object a line on stdout; people read stderr.",
)
@click.option("--plain", is_flag=True, help="Plain lines even on a terminal.")
@click.option("--debug", is_flag=True, help="Show the full trace of errors and debug lines of the log.")
@click.option(
    "--init-model",
    "init_model",
    metavar="FILE",
    help="Start from this saved model.",
    type=click.Path(exists=True, dir_okay=False, readable=True, path_type=Path),
)
@token_options
@click.option("-q", "--quiet", is_flag=True, help="Only warnings, failures and the closing summary.")
@click.pass_context
def run_command(ctx: click.Context, /, **parsed: object) -> None:
    """Train one model with the clients of two YAML files.

    Ctrl-C once ends the run with everything saved; twice stops now. A live display shows on a terminal, plain
    lines elsewhere. The exit status says how it ended: docs/exit-codes.md.
    """
    options = RunOptions(**parsed)  # type: ignore[arg-type]
    ctx.exit(_run_as_json(options) if options.output_format == "json" else _run_as_text(options))


def main(server_config: Path, client_config: Path) -> NoReturn:
    """The same command as a script's whole program, with these two files as defaults."""
    run_command.main(default_map={"server_config": server_config, "client_config": client_config})
    sys.exit(ExitCode.FINISHED)


def _run_as_text(options: RunOptions) -> int:
    from appfl_gc.report.live import LiveDisplay
    from appfl_gc.report.plain import PlainDisplay

    federation = _load(options)
    if federation is None:
        return ExitCode.CONFIGURATION
    console = plain_console()
    if console.is_terminal and not console.is_dumb_terminal and not options.plain and not options.quiet:
        tell_diagnostics(federation.warnings)  # plain lines have them among the run's own log lines
        return _train(options, federation, [LiveDisplay(console)], console)
    plain = PlainDisplay(sys.stdout, level=_level(options), quiet=options.quiet)
    return _train(options, federation, [plain], console)


def _run_as_json(options: RunOptions) -> int:
    from appfl_gc.report.json_lines import JsonLines
    from appfl_gc.report.plain import PlainDisplay

    with owned_stdout() as stdout:
        lines = JsonLines(stdout, exit_code=_exit_code_of, debug=options.debug)
        try:
            federation = _load(options, lines)
            if federation is None:
                return ExitCode.CONFIGURATION
            plain = PlainDisplay(sys.stderr, level=_level(options), quiet=options.quiet)
            console = plain_console(sys.stderr)
            return _train(options, federation, [lines, plain], console)
        except (Exception, KeyboardInterrupt) as error:
            lines.ended_by(of_exception(error), [_as_json(error)])
            raise


def _load(options: RunOptions, lines: JsonLines | None = None) -> Federation | None:
    """Load and check both files; errors are told, and ``None`` returned."""
    from appfl_gc.config import ConfigError, load

    try:
        federation = load(
            options.server_config,
            options.client_config,
            overrides=options.overrides,
            strict=options.strict,
            local=options.local,
            local_data=options.local_data,
        )
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


def _train(options: RunOptions, federation: Federation, displays: Sequence[Display], console: Console) -> int:
    """Run it; the closing summary goes to ``console`` after the displays have freed it."""
    from appfl_gc.report.summary import Summary

    with _told_on_terminal("Loading torch ..."):
        from appfl_gc.runner import api
    summary = Summary(console, command=_command_line(options))
    try:
        with contextlib.ExitStack() as stack:
            for display in displays:
                stack.enter_context(display)
            result = api.run(
                options.server_config,
                options.client_config,
                callbacks=[*displays, summary],
                overrides=options.overrides,
                strict=options.strict,
                local=options.local,
                local_data=options.local_data,
                enable_server_val=options.enable_server_val,
                init_model=options.init_model,
                compute_token=options.compute_token,
                openid_token=options.openid_token,
                federation=federation,
            )
    except KeyboardInterrupt:
        summary.stopped()
        raise
    if result.error is not None:
        tell_report(result.error, debug=options.debug)
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


def _level(options: RunOptions) -> int:
    return logging.DEBUG if options.debug else logging.INFO


def _exit_code_of(end: RunFinished) -> int:
    return of_outcome(end.outcome, None if end.error is None else end.error.error_class)


def _command_line(options: RunOptions) -> list[str]:
    """The command that repeats this run, without its --init-model."""
    words = ["appfl-gc", "run", "--server_config", str(options.server_config)]
    words += ["--client_config", str(options.client_config)]
    flags = {
        "--enable_server_val": options.enable_server_val,
        "--local": options.local,
        "--strict": options.strict,
    }
    words += [name for name, given in flags.items() if given]
    tokens = {"--compute_token": options.compute_token, "--openid_token": options.openid_token}
    words += [word for name, source in tokens.items() if source is not None for word in (name, source)]
    for name, function in options.local_data.items():
        words += ["--local-data", f"{name}={function}"]
    for override in options.overrides:
        words += ["--set", override]
    return words
