"""The command ``appfl-gc run``. torch is imported after the configuration is found to be right."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from appfl_gc.cli.exit_codes import ExitCode
from appfl_gc.cli.override_option import override_option, pairs
from appfl_gc.cli.program import Program
from appfl_gc.cli.run_display import Output, output_options, show
from appfl_gc.cli.token_options import token_options

if TYPE_CHECKING:
    from appfl_gc.config import Federation
    from appfl_gc.runner.api import RunResult
    from appfl_gc.runner.events import Callback

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
    init_model: Path | None
    compute_token: str | None
    openid_token: str | None


def _functions(ctx: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    functions = dict(value.split("=", 1) for value in pairs(ctx, parameter, values))
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
@override_option
@click.option("--strict", is_flag=True, help="Unknown keys and keys without effect are errors.")
@click.option(
    "--init-model",
    "init_model",
    metavar="FILE",
    help="Start from this saved model.",
    type=click.Path(exists=True, dir_okay=False, readable=True, path_type=Path),
)
@token_options
@output_options
@click.pass_context
def run_command(
    ctx: click.Context, /, output_format: str, plain: bool, debug: bool, quiet: bool, **parsed: object
) -> None:
    """Train one model with the clients of two YAML files.

    Ctrl-C once ends the run with everything saved; twice stops now. A live display shows on a terminal, plain
    lines elsewhere. The exit status says how it ended: docs/exit-codes.md.
    """
    options = RunOptions(**parsed)  # type: ignore[arg-type]
    output = Output(output_format, plain, debug, quiet)

    def train(federation: Federation, callbacks: Sequence[Callback]) -> RunResult:
        return _train(options, federation, callbacks)

    ctx.exit(show(output, lambda: _load(options), train))


def main(server_config: Path, client_config: Path) -> NoReturn:
    """The same command as a script's whole program, with these two files as defaults."""
    run_command.main(default_map={"server_config": server_config, "client_config": client_config})
    sys.exit(ExitCode.FINISHED)


def _load(options: RunOptions) -> Federation:
    from appfl_gc.config import load

    return load(
        options.server_config,
        options.client_config,
        overrides=options.overrides,
        strict=options.strict,
        local=options.local,
        local_data=options.local_data,
    )


def _train(options: RunOptions, federation: Federation, callbacks: Sequence[Callback]) -> RunResult:
    from appfl_gc.runner import api

    return api.run(
        options.server_config,
        options.client_config,
        callbacks=callbacks,
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
