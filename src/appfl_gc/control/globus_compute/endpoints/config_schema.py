"""Checks a ``user_endpoint_config`` against the schema that its endpoint publishes.

A schema is another party's text: its regular expressions may take for ever and its references may name other
hosts. It is applied in a process of its own that has a time limit, and no reference is followed out of it.
"""

from __future__ import annotations

import itertools
import json
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from appfl_gc.config.findings import did_you_mean
from appfl_gc.protocol.redaction import shown
from appfl_gc.protocol.wire import Json, clean_text

if TYPE_CHECKING:
    from jsonschema import ValidationError

SECONDS_FOR_ALL = 20.0
LARGEST_SCHEMA = 1_000_000
FINDINGS_EACH = 20
RESERVED = frozenset({"parent_config", "user_runtime", "mapped_identity", "_GC"})
"""Names that the agent's templates keep for themselves."""
BLANK = re.compile(r"<your [^<>]{1,100}>")
"""What `appfl-gc facility show` leaves to the user."""


@dataclass(frozen=True)
class Misfit:
    """One thing that an endpoint would refuse: ``path`` in the configuration (empty: the whole), and a sentence."""

    path: tuple[str | int, ...]
    message: str


@dataclass(frozen=True)
class SchemaAnswer:
    """What a schema says of a configuration. ``unchecked`` is why it could not be applied, or ""."""

    misfits: tuple[Misfit, ...] = ()
    unchecked: str = ""


def check_configs(
    pairs: Sequence[tuple[Mapping[str, Json] | None, Mapping[str, Json]]], seconds: float = SECONDS_FOR_ALL
) -> list[SchemaAnswer]:
    """Check configurations, each against its schema (None: the endpoint publishes none); answers in order.

    Args:
        pairs: schema and ``user_endpoint_config``.
        seconds: for all of them together; what is not done by then is ``unchecked``.
    """
    wanted = [json.dumps([schema, config]) if schema is not None else "" for schema, config in pairs]
    texts = list(dict.fromkeys(text for text in wanted if 0 < len(text) <= LARGEST_SCHEMA))
    answers = dict(zip(texts, _apart(texts, seconds), strict=True)) if texts else {}
    results = []
    for (_, config), text in zip(pairs, wanted, strict=True):
        found = answers.get(
            text, SchemaAnswer(unchecked="Its schema is too large to be applied." if text else "")
        )
        results.append(SchemaAnswer((*_always_wrong(config), *found.misfits), found.unchecked))
    return results


def _always_wrong(config: Mapping[str, Json]) -> Iterator[Misfit]:
    """What no endpoint takes: its templates' own names, and what a ready block leaves to be filled in."""
    for name, value in config.items():
        if name in RESERVED:
            yield Misfit((name,), f"`{name}` is a name that endpoints keep for themselves.")
        blank = BLANK.search(value) if isinstance(value, str) else None
        if blank:
            yield Misfit((name,), f"{blank.group()} is to be replaced with your own.")


def _apart(texts: Sequence[str], seconds: float) -> list[SchemaAnswer]:
    """Apply each in one child process; what it did not come to is unchecked."""
    # Without the working directory on the path: no file of the user is taken for a module.
    program = f"import sys; sys.path[:] = filter(None, sys.path); from {__name__} import serve; serve()"
    try:
        done = subprocess.run(
            [sys.executable, "-c", program],
            input="\n".join(texts),
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
        output, why = done.stdout, "Its schema could not be applied."
    except subprocess.TimeoutExpired as error:
        output = (error.stdout or b"").decode("utf-8", "replace")
        why = f"Its schema could not be applied within {seconds:.0f} s."
    answers = [_parsed(line) for line in output.split("\n")[:-1]][: len(texts)]
    return answers + [SchemaAnswer(unchecked=why)] * (len(texts) - len(answers))


def _parsed(line: str) -> SchemaAnswer:
    answer: dict[str, Any] = json.loads(line)
    misfits = tuple(Misfit(tuple(path), message) for path, message in answer["misfits"])
    return SchemaAnswer(misfits, answer["unchecked"])


def apply_schema(schema: Mapping[str, Json], config: Mapping[str, Json]) -> SchemaAnswer:
    """Apply a schema here and now; ``check_configs`` does it safely. Values that look like secrets are not shown."""
    from jsonschema import SchemaError
    from jsonschema.validators import validator_for
    from referencing import Registry
    from referencing.exceptions import Unresolvable

    try:
        kind = validator_for(schema)
        kind.check_schema(schema)
        errors = itertools.islice(kind(schema, registry=Registry()).iter_errors(config), FINDINGS_EACH)
        misfits = [misfit for error in errors for misfit in _misfits(error)]
        misfits.sort(key=lambda misfit: [str(part) for part in misfit.path])
        return SchemaAnswer(tuple(misfits[:FINDINGS_EACH]))
    except SchemaError as error:
        return SchemaAnswer(unchecked=f"Its schema is not a valid one: {clean_text(error.message, 200)}.")
    except Unresolvable:
        return SchemaAnswer(unchecked="Its schema refers to something outside of it.")
    except Exception as error:  # noqa: BLE001  a schema is another party's; no other check may suffer from it
        return SchemaAnswer(unchecked=f"Its schema could not be applied ({type(error).__name__}).")


def _misfits(error: ValidationError) -> list[Misfit]:
    """What is wrong in words, each at its own key; values of secrets are not shown."""
    keyword, wanted, found = str(error.validator), error.validator_value, error.instance
    path = tuple(error.absolute_path)
    known = error.schema.get("properties") if isinstance(error.schema, dict) else None
    names = list(known) if isinstance(known, dict) else []
    if keyword == "required" and isinstance(wanted, list) and isinstance(found, dict):
        missing = [f"`{clean_text(str(name), 50)}`" for name in wanted if name not in found]
        return [Misfit(path, f"It lacks {', '.join(missing)}.")]
    unknown = [name for name in found if name not in names] if isinstance(found, dict) else []
    if keyword == "additionalProperties" and wanted is False and unknown:
        return [Misfit((*path, name), _unknown(name, names)) for name in unknown]
    value = shown(str(path[-1]) if path else "", found, 60)
    return [Misfit(path, clean_text(f"Expected {_expected(keyword, wanted)}; found {value}", 400) + ".")]


def _unknown(name: str, names: Sequence[str]) -> str:
    takes = f"It takes {', '.join(sorted(names))}." if names else "It takes none."
    return clean_text(f"The endpoint knows no `{name}`. {did_you_mean(name, names) or takes}", 400)


def _expected(keyword: str, wanted: Any) -> str:
    items = wanted if isinstance(wanted, list) else [wanted]
    if keyword == "type":
        return f"a value of type {' or '.join(map(str, items))}"
    if keyword == "enum":
        return f"one of {', '.join(map(json.dumps, items))}"
    text = f"{wanted}" if isinstance(wanted, str) else json.dumps(wanted)
    words = {
        "const": f"{text}",
        "pattern": f"text of the form {text}",
        "minimum": f"at least {text}",
        "maximum": f"at most {text}",
        "minLength": f"at least {text} characters",
        "maxLength": f"at most {text} characters",
    }
    return words.get(keyword, f"what the schema's `{keyword}` asks for: {text}")


def serve() -> None:
    """The child process: a line of JSON ``[schema, config]`` in, a line of JSON out."""
    for line in sys.stdin:
        schema, config = json.loads(line)
        answer = apply_schema(schema, config)
        misfits = [[list(misfit.path), misfit.message] for misfit in answer.misfits]
        print(json.dumps({"misfits": misfits, "unchecked": answer.unchecked}), flush=True)
