"""Writes ``docs/cli.md`` from the commands: ``python -m appfl_gc.cli.reference_page > docs/cli.md``."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import click

from appfl_gc.cli.main import cli

INTRODUCTION = """\
# Commands

`appfl-gc COMMAND --help` shows the same on a terminal. [Exit codes](exit-codes.md) lists how each can end.
This page is written by `python -m appfl_gc.cli.reference_page > docs/cli.md`.
"""


def reference_page() -> str:
    """The page: a section for every command and sub-command with all options."""
    with click.Context(cli, info_name="appfl-gc", **cli.context_settings) as context:
        return "\n".join([INTRODUCTION, *_sections(cli, context)])


def _sections(command: click.Command, context: click.Context) -> Iterator[str]:
    level = "#" * min(4, 1 + len(context.command_path.split()))
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    lines = [
        f"{level} {context.command_path}",
        "",
        *_paragraphs(command.help or command.short_help or ""),
        "",
    ]
    lines += ["```text", usage, "```", ""]
    rows = [record for parameter in command.get_params(context) if (record := _row(parameter, context))]
    if rows:
        lines += ["| option | meaning |", "|---|---|", *rows, ""]
    yield "\n".join(lines)
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            if child is not None:
                with click.Context(child, context, name, **child.context_settings) as inner:
                    yield from _sections(child, inner)


def _row(parameter: click.Parameter, context: click.Context) -> str | None:
    record = parameter.get_help_record(context)
    if record is None:
        return None
    names, meaning = record
    return f"| `{names.replace('|', ', ')}` | {meaning.replace('|', ', ')} |"


def _paragraphs(text: str) -> list[str]:
    return "\n".join(line.strip() for line in text.replace("\b", "").strip().splitlines()).splitlines()


if __name__ == "__main__":
    sys.stdout.write(reference_page())
