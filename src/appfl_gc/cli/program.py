"""How a click command becomes a program: errors become sentences on stderr and an exit status."""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence
from typing import Any

import click

from appfl_gc.cli.closed_pipe import write_to_nobody
from appfl_gc.protocol.wire import clean_text


class Program(click.Command):
    """A command whose ``main`` never shows a Python traceback, unless ``--debug`` is among the arguments."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        """As click's, but every error is told in words; in standalone mode it exits with an ``ExitCode``."""
        if not standalone_mode:
            return super().main(args, prog_name, complete_var, standalone_mode=False, **extra)
        for stream in (sys.stdout, sys.stderr):
            # A file name or a site's text that the terminal's encoding lacks must not end a run.
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")
        given = list(sys.argv[1:] if args is None else args)
        try:
            status = super().main(given, prog_name, complete_var, standalone_mode=False, **extra)
        except click.ClickException as error:
            error.message = clean_text(error.message)
            error.show()
            status = error.exit_code
        except BrokenPipeError:
            status = 0  # whoever read has seen enough
        except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001  told in words
            from appfl_gc.cli.failure import tell_exception

            status = tell_exception(error, debug="--debug" in given)
        try:
            sys.stdout.flush()
        except BrokenPipeError:
            write_to_nobody(sys.stdout)
        sys.exit(int(status) if isinstance(status, int) else 0)
