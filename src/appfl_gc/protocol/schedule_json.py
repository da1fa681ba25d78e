"""The JSON forms of scheduler events and actions, in which the journal keeps them."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from appfl_gc.protocol.measures import Timing
from appfl_gc.protocol.schedule import Action, Aggregate, Arrived, Event, Refused, UpdateId, UpdateMeta
from appfl_gc.protocol.wire import Json, WireError, as_object

_KINDS: Mapping[str, type[Any]] = MappingProxyType(
    {kind.__name__: kind for union in (Event, Action) for kind in typing.get_args(union)}
)


def step_to_json(item: Event | Action) -> dict[str, Json]:
    """The JSON form of an event or an action: its fields, and its class's name as ``kind``."""
    return {"kind": type(item).__name__, **dataclasses.asdict(item)}


def event_from_json(value: Json) -> Event:
    """The event of a JSON form; raises ``WireError``."""
    return typing.cast(Event, _parse(value, typing.get_args(Event)))


def action_from_json(value: Json) -> Action:
    """The action of a JSON form; raises ``WireError``."""
    return typing.cast(Action, _parse(value, typing.get_args(Action)))


def _parse(value: Json, expected: tuple[type[Any], ...]) -> Any:
    fields: dict[str, Any] = dict(as_object(value, "A scheduler's event or action"))
    kind = _KINDS.get(str(fields.pop("kind", "")))
    if kind not in expected:
        raise WireError("A scheduler's event or action is of an unknown kind.")
    try:
        if kind is Arrived:
            fields["meta"] = _meta(fields["meta"])
        elif kind is Refused:
            fields["update"] = UpdateId(**fields["update"])
        elif kind is Aggregate:
            fields["updates"] = tuple((UpdateId(**update), behind) for update, behind in fields["updates"])
        return kind(
            **{name: tuple(item) if isinstance(item, list) else item for name, item in fields.items()}
        )
    except (KeyError, TypeError, ValueError) as error:
        raise WireError(f"A scheduler's {kind.__name__} is malformed: {error}.") from None


def meta_to_json(meta: UpdateMeta) -> dict[str, Json]:
    """The JSON form of what is known of an update."""
    return dataclasses.asdict(meta)


def meta_from_json(value: Json) -> UpdateMeta:
    """What is known of an update, from its JSON form; raises ``WireError``."""
    try:
        return _meta(as_object(value, "What is known of an update"))
    except (KeyError, TypeError, ValueError) as error:
        raise WireError(f"What is known of an update is malformed: {error}.") from None


def _meta(fields: Any) -> UpdateMeta:
    known = {**fields, "update": UpdateId(**fields["update"]), "timing": Timing(**fields["timing"])}
    return UpdateMeta(**known)
