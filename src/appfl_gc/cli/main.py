"""The ``appfl-gc`` command. Sub-commands are imported when they are typed, so ``--help`` stays fast."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import click

from appfl_gc import __version__
from appfl_gc.cli.program import Program


@dataclass(frozen=True)
class LazyCommand:
    """Where a sub-command is (``module:attribute``) and its line in ``--help``."""

    target: str
    help: str

    def load(self) -> click.Command:
        """Import the module and return its click command."""
        module, _, attribute = self.target.partition(":")
        command = getattr(importlib.import_module(module), attribute)
        if not isinstance(command, click.Command):
            raise TypeError(f"{self.target} is not a click command.")
        return command


COMMANDS: Mapping[str, LazyCommand] = MappingProxyType(
    {
        "run": LazyCommand("appfl_gc.cli.run:run_command", "Train one model as two YAML files say."),
        "resume": LazyCommand("appfl_gc.cli.resume:resume", "Go on with a run that was interrupted."),
        "cancel": LazyCommand(
            "appfl_gc.cli.cancel:cancel", "End a run and stop what its sites still compute."
        ),
        "validate": LazyCommand("appfl_gc.cli.validate:validate", "Check both YAML files without running."),
        "init": LazyCommand("appfl_gc.cli.init:init", "Write a ready example into a directory."),
        "doctor": LazyCommand(
            "appfl_gc.cli.doctor:doctor", "Check logins, endpoints and limits without a job."
        ),
        "sources": LazyCommand("appfl_gc.cli.sources:sources", "Show which source files a run would send."),
        "simulate": LazyCommand("appfl_gc.cli.simulate:simulate", "Try a schedule on a virtual clock."),
        "login": LazyCommand("appfl_gc.cli.login:login", "Log in to Globus."),
        "whoami": LazyCommand("appfl_gc.cli.login:whoami", "Show which Globus identity submits from here."),
        "logout": LazyCommand("appfl_gc.cli.login:logout", "Revoke the login of this machine."),
        "function": LazyCommand("appfl_gc.cli.function:function", "Register the function that sites run."),
        "endpoint": LazyCommand("appfl_gc.cli.endpoint:endpoint", "Write and run Globus Compute endpoints."),
        "facility": LazyCommand("appfl_gc.cli.facility:facility", "Show what is known of facilities."),
        "runs": LazyCommand("appfl_gc.cli.runs:runs", "Manage what runs have left behind."),
        "sandbox": LazyCommand(
            "appfl_gc.cli.sandbox:sandbox", "Run a Globus Compute service here, without an account."
        ),
        "site": LazyCommand("appfl_gc.cli.site:site", "Manage what this site allows to run."),
    }
)


class LazyGroup(Program, click.Group):
    """A group that knows its sub-commands by name and imports the one that is typed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, imported now; ``None`` if the name is unknown."""
        entry = COMMANDS.get(cmd_name)
        return None if entry is None else entry.load()

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the typed command; raises ``UsageError`` for one that is unknown."""
        name = args[0]
        if name not in COMMANDS and not name.startswith("-"):
            near = difflib.get_close_matches(name, COMMANDS, n=1)
            hint = f" Did you mean `{near[0]}`?" if near else ""
            raise click.UsageError(f"There is no command `appfl-gc {name}`.{hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.help) for name, entry in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="appfl-gc", message="%(prog)s %(version)s")
@click.option("--debug", is_flag=True, help="Show the full trace of an error.")
def cli(debug: bool) -> None:
    """Train one model across sites with Globus Compute.

    The exit status says how it ended; docs/exit-codes.md lists the codes.
    """


def main() -> None:
    """Entry point of ``appfl-gc``."""
    cli.main(prog_name="appfl-gc")


if __name__ == "__main__":
    main()
