"""``appfl-gc resume``: go on with a run whose server ended. torch is imported after all else is found to be right."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from appfl_gc.cli.closed_pipe import plain_console
from appfl_gc.cli.exit_codes import ExitCode
from appfl_gc.cli.override_option import override_option
from appfl_gc.cli.program import Program
from appfl_gc.cli.run_display import Output, output_options, show
from appfl_gc.cli.stdout_owner import owned_stdout
from appfl_gc.cli.token_options import token_options

if TYPE_CHECKING:
    from appfl_gc.config import Federation
    from appfl_gc.runner.api import RunResult
    from appfl_gc.runner.events import Callback
    from appfl_gc.runner.resume.invocation import Invocation
    from appfl_gc.runner.resume.past import PastRun


@click.command(
    "resume",
    cls=Program,
    short_help="Go on with a run that was interrupted.",
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.argument("run_dir", metavar="RUN_DIR", type=click.Path(path_type=Path))
@click.option("--plan", is_flag=True, help="Only show what would be kept, attached to and sent again.")
@click.option(
    "--server_config",
    "--server-config",
    "server_config",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Where the server's YAML file is now.  [default: where it was]",
)
@click.option(
    "--client_config",
    "--client-config",
    "client_config",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Where the clients' YAML file is now.  [default: where it was]",
)
@override_option
@token_options
@output_options
@click.pass_context
def resume(
    ctx: click.Context,
    /,
    run_dir: Path,
    plan: bool,
    server_config: Path | None,
    client_config: Path | None,
    overrides: tuple[str, ...],
    compute_token: str | None,
    openid_token: str | None,
    output_format: str,
    plain: bool,
    debug: bool,
    quiet: bool,
) -> None:
    """Go on with a run that was interrupted, failed or killed.

    RUN_DIR is the run's directory, such as output/2026-11-21-09-30-00-1f3a9c. Finished rounds stay; updates that have
    arrived are used; calls that are on their way are attached to, or sent again. With --plan nothing is changed and
    nothing is sent. The exit status is that of `run`; 0 if the run is finished already.
    """
    from appfl_gc.runner.resume.invocation import Invocation
    from appfl_gc.runner.resume.reading import read_past
    from appfl_gc.runner.run_directory import RunDirectory

    directory = RunDirectory(run_dir.absolute())
    output = Output(output_format, plain, debug, quiet)
    past = read_past(directory)
    if past.over:
        _tell_finished(past, output)
        return
    invocation = Invocation.again(
        directory.path,
        server_config=server_config,
        client_config=client_config,
        overrides=overrides,
        compute_token=compute_token,
        openid_token=openid_token,
    )
    with invocation.in_its_directory():
        ctx.exit(_plan(past, invocation, output) if plan else _resume(past, invocation, overrides, output))


def _resume(past: PastRun, invocation: Invocation, overrides: Sequence[str], output: Output) -> int:
    def train(federation: Federation, callbacks: Sequence[Callback]) -> RunResult:
        from appfl_gc.runner import api

        return api.resume(
            past.directory.path,
            server_config=invocation.server_config,
            client_config=invocation.client_config,
            callbacks=callbacks,
            overrides=overrides,
            compute_token=invocation.compute_token,
            openid_token=invocation.openid_token,
            tell=_tell,
        )

    return show(output, invocation.federation, train)


def _tell_finished(past: PastRun, output: Output) -> None:
    directory, rounds = past.directory, past.rounds
    if output.output_format == "json":
        from appfl_gc.report.json_lines import JsonLines
        from appfl_gc.runner.events import Outcome, RunFinished

        with owned_stdout() as stdout:
            lines = JsonLines(stdout, exit_code=lambda _: ExitCode.FINISHED)
            lines.on_event(
                RunFinished(
                    Outcome.FINISHED,
                    directory.path,
                    directory.model,
                    rounds.metrics,
                    past.seconds,
                    rounds.rounds,
                )
            )
        return
    count = f"{rounds.rounds} round{'' if rounds.rounds == 1 else 's'}"
    click.echo(
        f"The run is finished after {count}; there is nothing to go on with.\nIts model is {directory.model}"
    )


def _plan(past: PastRun, invocation: Invocation, output: Output) -> int:
    from appfl_gc.cli.doctor import PIPE_WIDTH, exit_code_of, told_on_terminal
    from appfl_gc.report.resume_plan import plan_json, print_plan
    from appfl_gc.runner.lease import refuse_if_held
    from appfl_gc.runner.resume.plan import make_plan

    refuse_if_held(past.directory.path, _tell)
    with owned_stdout() as stdout:
        with told_on_terminal() as tell:
            found = make_plan(past, invocation, tell)
        status = exit_code_of(found.rows)
        if output.output_format == "json":
            stdout.write(json.dumps(plan_json(found, status), indent=2) + "\n")
            return status
        console = plain_console(stdout)
        if not console.is_terminal:
            console.width = max(console.width, PIPE_WIDTH)
        print_plan(console, found)
    return status


def _tell(words: str) -> None:
    click.echo(words, err=True)
