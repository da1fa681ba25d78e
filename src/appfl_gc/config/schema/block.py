"""What every block of the schema is made of: frozen models, and keys that say what becomes of them."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, NoReturn, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic.fields import FieldInfo


class Status(str, enum.Enum):
    """What becomes of a key."""

    WORKS = "works"
    NOT_YET = "not yet"
    NEVER = "never"
    IGNORED = "ignored"


ANY_VALUE = "any value"
"""Stands in ``Support.refused`` for every value that is not empty or false."""


@dataclass(frozen=True)
class Support:
    """How far a key is supported.

    Attributes:
        status: what becomes of it.
        why: the reason, for the documentation and for messages.
        refused: values that are an error until the feature is built; ``ANY_VALUE`` stands for all that are
            not empty or false.
        required: whether the key must be given.
        quiet: whether a key without effect passes without a warning.
    """

    status: Status = Status.WORKS
    why: str = ""
    refused: tuple[Any, ...] = ()
    required: bool = False
    quiet: bool = False

    def refuses(self, value: Any) -> bool:
        """Whether ``value`` switches on what is not built."""
        if ANY_VALUE in self.refused:
            return bool(value)
        return any(value == refused and type(value) is type(refused) for refused in self.refused)


def key(
    description: str,
    default: Any = None,
    *,
    status: Status = Status.WORKS,
    why: str = "",
    refused: tuple[Any, ...] = (),
    required: bool = False,
    quiet: bool = False,
    **constraints: Any,
) -> Any:
    """A key of a block: description, default, support, pydantic's constraints (``ge``, ``pattern`` ...)."""
    return Field(
        default,
        description=description,
        json_schema_extra={
            "status": status.value,
            "why": why,
            "refused": list(refused),
            "required": required,
            "quiet": quiet,
        },
        **constraints,
    )


def not_yet(
    description: str, default: Any = None, *, refused: tuple[Any, ...] = (), why: str = "", **more: Any
) -> Any:
    """A key of a feature that is not built yet; ``refused`` values are errors, others pass in silence."""
    return key(description, default, status=Status.NOT_YET, refused=refused, why=why, **more)


def ignored(description: str, why: str, default: Any = None, *, quiet: bool = False) -> Any:
    """A key that is accepted and has no effect."""
    return key(description, default, status=Status.IGNORED, why=why, quiet=quiet)


def support_of(field: FieldInfo) -> Support:
    """The support that ``key`` declared for ``field``."""
    extra = field.json_schema_extra
    if not isinstance(extra, dict):
        return Support()
    refused = extra["refused"]
    return Support(
        Status(extra["status"]),
        str(extra["why"]),
        tuple(refused) if isinstance(refused, list) else (),
        bool(extra["required"]),
        bool(extra["quiet"]),
    )


class Kwargs(dict[str, Any]):
    """Keyword arguments for user or library code: a dictionary that cannot be changed."""

    def _refuse(self, *_args: object, **_kwargs: object) -> NoReturn:
        raise TypeError("The configuration cannot be changed; copy it with dict(...) first.")

    __setitem__ = __delitem__ = __ior__ = _refuse
    update = pop = popitem = clear = setdefault = _refuse

    def __reduce__(self) -> tuple[type[Kwargs], tuple[dict[str, Any]]]:
        return Kwargs, (dict(self),)


def freeze(value: Any) -> Any:
    """``value`` with dictionaries as ``Kwargs`` and lists as tuples, all the way down."""
    if isinstance(value, Mapping):
        return Kwargs({name: freeze(item) for name, item in value.items()})
    if isinstance(value, list | tuple):
        return tuple(freeze(item) for item in value)
    return value


def thaw(value: Any) -> Any:
    """``value`` as plain dictionaries and lists, a copy all the way down."""
    if isinstance(value, Mapping):
        return {name: thaw(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [thaw(item) for item in value]
    return value


KwargsBlock = Annotated[dict[str, Any], AfterValidator(freeze)]
"""A block whose keys are not ours: it holds ``Kwargs`` after validation."""


class Block(BaseModel):
    """A block of keys. Frozen; keys that it does not declare are kept in ``model_extra``."""

    model_config = ConfigDict(frozen=True, strict=True, extra="allow", protected_namespaces=())

    aliases: ClassVar[Mapping[str, str]] = {}
    """Old and misspelt names of keys, and the names that they stand for."""

    def plain(self) -> dict[str, Any]:
        """As plain dictionaries and lists: the keys that are set, and the defaults that have an effect."""
        result: dict[str, Any] = {}
        for name, field in type(self).model_fields.items():
            value = getattr(self, name)
            counts = name in self.model_fields_set or support_of(field).status is Status.WORKS
            if value is None or not counts:
                continue
            result[name] = value.plain() if isinstance(value, Block) else thaw(value)
        return {**result, **thaw(self.model_extra or {})}

    def working(self) -> dict[str, Any]:
        """``plain``, but only the keys that have an effect."""
        fields = type(self).model_fields
        works = {name for name, field in fields.items() if support_of(field).status is Status.WORKS}
        return {name: value for name, value in self.plain().items() if name in works}


def block_of(field: FieldInfo) -> type[Block] | None:
    """The block that ``field`` holds, or None for a field that holds a value."""
    for candidate in (field.annotation, *get_args(field.annotation)):
        if isinstance(candidate, type) and issubclass(candidate, Block):
            return candidate
    return None
