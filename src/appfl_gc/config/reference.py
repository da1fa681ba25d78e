"""Renders the documentation page of every key from the schema.

``python -m appfl_gc.config.reference > docs/configuration.md``
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from appfl_gc.config.names import AGGREGATORS, SCHEDULERS, TRAINERS
from appfl_gc.config.schema.aggregator_kwargs import AGGREGATOR_KWARGS
from appfl_gc.config.schema.block import Block, Status, block_of, support_of
from appfl_gc.config.schema.client import Client, Shared
from appfl_gc.config.schema.scheduler_kwargs import SCHEDULER_KWARGS
from appfl_gc.config.schema.server_configs import ServerConfigs

HEAD = """\
# Configuration

<!-- Written by `python -m appfl_gc.config.reference > docs/configuration.md`; do not edit. -->

A federation is described by two YAML files, both on the server's machine:

* `--server_config` has the blocks `client_configs` (what all clients share) and `server_configs`;
* `--client_config` has the list `clients`, one entry per client.

A client's settings are `client_configs` with its own entry laid over: blocks are merged key by key, all other
values, lists included, are replaced. `server_configs.comm_configs` is merged with `client_configs.comm_configs`,
whose values win. `${...}` takes another value of the two files, such as `${server_configs.num_clients}`, and
`${oc.env:NAME}` one of the environment. An empty value means the default. `--set KEY=VALUE` on the command line wins
over both files.

`appfl-gc validate` checks both files without running anything; with `--explain` it shows every effective value and
where it comes from.

**Paths.** A relative `*_path` is looked for in the working directory, then beside the YAML file that has it, then in
each of that file's parents. `site:NAME` instead of a path means something that the site's policy file names: no code
travels then. A file travels alone: it cannot import from its own folder.

**Your own classes.** With `trainer_path`, keys that are not listed here pass through to your trainer. With
`aggregator_path` and `scheduler_path` the same holds for `aggregator_kwargs` and `scheduler_kwargs`. Elsewhere an
unknown key is a warning, and with `--strict` an error.

**Rehearsal.** `--local` turns every endpoint into `local` and switches the stores `s3` and `proxystore` off.
`--local-data NAME=FILE.py:FUNCTION` replaces the dataset function of the client `NAME`, or of all clients whose
`dataset_name` is `NAME`; the function is given those of the `dataset_kwargs` that it takes.

**Old names.** These are read with a warning: `num_clients` in `scheduler_kwargs` or `aggregator_kwargs` (now in
`server_configs`); `globus_compute_configs.s3_*` (now `s3_configs.s3_*`; a bucket there switches S3 on);
`train_configs.logging_id` (now `client_id`); and the misspelt keys listed with their blocks.

The column *state* says what becomes of a key:

* **works**;
* **not yet**: the feature is not built yet. Switching it on is an error; settings of one that is off are accepted;
* **never**: not planned; it is accepted with a warning;
* **ignored**: accepted, and has no effect.
"""


def page() -> str:
    """The whole page as Markdown."""
    parts = [HEAD]
    parts.append("## Names\n\n" + "\n".join(_names()))
    parts.extend(_sections("client_configs", Shared, "In the server's file."))
    parts.extend(_sections("server_configs", ServerConfigs, "In the server's file."))
    parts.extend(
        _sections("clients[]", Client, "In the clients' file. All blocks of `client_configs`, and:", Shared)
    )
    for title, tables in (("scheduler_kwargs", SCHEDULER_KWARGS), ("aggregator_kwargs", AGGREGATOR_KWARGS)):
        for schema in dict.fromkeys(tables.values()):
            names = ", ".join(f"`{name}`" for name, of in tables.items() if of is schema)
            base = schema.__base__
            inherited = base if base is not None and base is not Block and issubclass(base, Block) else None
            words = f"For {names}."
            if inherited is not None:
                above = ", ".join(f"`{name}`" for name, of in tables.items() if of is inherited)
                words += f" The keys of {above}, and:"
            parts.extend(_sections(f"server_configs.{title}: {names}", schema, words, inherited))
    return "\n".join(part.rstrip("\n") + "\n" for part in parts)


def _names() -> Iterator[str]:
    yield "| | works | not yet |"
    yield "|---|---|---|"
    for what, table in (("scheduler", SCHEDULERS), ("aggregator", AGGREGATORS), ("trainer", TRAINERS)):
        built = ", ".join(f"`{name}`" for name, works in table.items() if works)
        later = ", ".join(f"`{name}`" for name, works in table.items() if not works)
        yield f"| `{what}` | {built} | {later} |"


def _sections(
    title: str, schema: type[Block], words: str, without: type[Block] | None = None
) -> Iterator[str]:
    known = without.model_fields if without is not None else {}
    fields = {name: field for name, field in schema.model_fields.items() if name not in known}
    heading = title if title.endswith("`") else f"`{title}`"
    reasons = {support_of(field).why for field in fields.values()}
    shared = reasons.pop() if len(reasons) == 1 else ""
    words = f"{shared} {words}".replace("``", "`").strip()
    lines = [
        f"## {heading}\n",
        f"{words}\n",
        "| key | type | default | state | meaning |",
        "|---|---|---|---|---|",
    ]
    lines.extend(_row(name, field, shared) for name, field in fields.items())
    if schema.aliases:
        old = ", ".join(f"`{name}` (now `{new}`)" for name, new in schema.aliases.items())
        lines.append(f"\nOld and mistaken names, read with a warning: {old}.")
    yield "\n".join(lines)
    for name, field in fields.items():
        inner = block_of(field)
        if inner is not None and not (title == "server_configs" and name == "comm_configs"):
            place = f"{title.replace('`', '')}.{name}"
            yield from _sections(place, inner, inner.__doc__ or "")


def _row(name: str, field: FieldInfo, said: str) -> str:
    support = support_of(field)
    default = "required" if support.required else _default(field)
    meaning = field.description or ""
    if support.why and support.why != said:
        meaning = f"{meaning} {support.why}"
    state = f"**{support.status.value}**" if support.status is not Status.WORKS else support.status.value
    cells = (f"`{name}`", _type(field), default, state, meaning)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _default(field: FieldInfo) -> str:
    if block_of(field) is not None or field.default is None:
        return "–"
    if isinstance(field.default, bool | int | float):
        return f"`{field.default}`"
    return f"`{field.default!r}`".replace("'", '"') if field.default != {} else "`{}`"


def _type(field: FieldInfo) -> str:
    return "block" if block_of(field) is not None else " or ".join(dict.fromkeys(_words(field.annotation)))


def _words(annotation: Any) -> Iterator[str]:
    simple = {
        bool: "true/false",
        int: "whole number",
        float: "number",
        str: "text",
        dict: "block",
        list: "list",
    }
    origin = get_origin(annotation)
    if origin is Literal:
        yield from (f"`{value}`" for value in get_args(annotation))
    elif origin in {Union, UnionType}:
        for member in get_args(annotation):
            if member is not NoneType:
                yield from _words(member)
    elif origin in simple or annotation in simple:
        yield simple[origin if origin in simple else annotation]
    else:
        # An annotated type: its first argument is the type.
        yield from _words(get_args(annotation)[0])


if __name__ == "__main__":
    sys.stdout.write(page())
