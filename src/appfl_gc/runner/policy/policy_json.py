"""The JSON forms of what the failure policy hears and decides, in which the journal keeps them."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from appfl_gc.protocol.errors import ErrorClass
from appfl_gc.protocol.schedule import UpdateId
from appfl_gc.protocol.wire import Json, WireError, as_object
from appfl_gc.runner.policy.decisions import Configured, Decision, PolicyEvent
from appfl_gc.runner.policy.settings import PolicySettings

_KINDS: Mapping[str, type[Any]] = MappingProxyType(
    {kind.__name__: kind for union in (PolicyEvent, Decision) for kind in typing.get_args(union)}
)


def to_json(item: PolicyEvent | Decision) -> dict[str, Json]:
    """The JSON form: the fields, and the class's name as ``kind``."""
    if isinstance(item, Configured):
        fields: dict[str, Any] = {"settings": item.settings.to_json()}
    else:
        fields = dataclasses.asdict(item)
    return {"kind": type(item).__name__, **fields}


def event_from_json(value: Json) -> PolicyEvent:
    """The event of a JSON form; raises ``WireError``."""
    return typing.cast(PolicyEvent, _parse(value, typing.get_args(PolicyEvent)))


def decision_from_json(value: Json) -> Decision:
    """The decision of a JSON form; raises ``WireError``."""
    return typing.cast(Decision, _parse(value, typing.get_args(Decision)))


def _parse(value: Json, expected: tuple[type[Any], ...]) -> Any:
    fields: dict[str, Any] = dict(as_object(value, "An event or a decision of the policy"))
    kind = _KINDS.get(str(fields.pop("kind", "")))
    if kind not in expected:
        raise WireError("An event or a decision of the policy is of an unknown kind.")
    try:
        if fields.get("update") is not None:
            fields["update"] = UpdateId(**fields["update"])
        if "settings" in fields:
            fields["settings"] = PolicySettings.from_json(fields["settings"])
        if "error_class" in fields:
            fields["error_class"] = ErrorClass(fields["error_class"])
        return kind(**fields)
    except (KeyError, TypeError, ValueError) as error:
        raise WireError(f"{kind.__name__} of the policy is malformed: {error}.") from None
