"""ProxyStore's connectors by name: which serve, what they take, and why the others are refused.

ProxyStore is not imported for this.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Literal
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from appfl_gc.protocol.errors import UsageError

_INSTEAD = "use EndpointConnector, RedisConnector or FileConnector."
_DISTRIBUTED = (
    "it lies in the package proxystore-ex, starts a server on each machine that unpickles whatever reaches its port, "
    f"and unpickles what others answer, so that anybody could run code there; {_INSTEAD}"
)
REFUSED = {
    "LocalConnector": f"it keeps objects in one process, so that no site can read them; {_INSTEAD}",
    "MultiConnector": "both sides must know which connector holds a model; configure one for each client.",
    "MargoConnector": _DISTRIBUTED,
    "UCXConnector": _DISTRIBUTED,
    "ZeroMQConnector": _DISTRIBUTED,
    "DAOSConnector": "it lies in the package proxystore-ex; where DAOS is mounted, use FileConnector.",
}
"""Why a connector of ProxyStore is not used, to follow its name and a colon."""

_Text = Annotated[str, Field(min_length=1, max_length=4000, pattern=r"^[^\x00-\x1f\x7f]+$")]
# Where the server has a relative path, a site must not take it from its own working directory.
_Directory = Annotated[
    _Text, AfterValidator(lambda path: path if path[0] == "~" else str(Path(path).absolute()))
]
_Seconds = Annotated[float, Field(gt=0, lt=1e7)]
_WITHOUT_EFFECT = ("clear", "buffering")


class Arguments(BaseModel):
    """Keyword arguments of a connector. ``clear`` and ``buffering`` are known and have no effect."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class RedisArguments(Arguments):
    """``tls`` is ours. A password is read from ``~/.netrc`` on each machine, never from a configuration."""

    hostname: _Text
    port: Annotated[int, Field(gt=0, lt=65536)]
    tls: bool = False
    clear: bool = False


class FileArguments(Arguments):
    """The directory must be the same one on both machines."""

    store_dir: _Directory
    clear: bool = False
    buffering: int = -1


class EndpointArguments(Arguments):
    """ProxyStore's endpoints by UUID, and where they are configured on that machine."""

    endpoints: Annotated[list[UUID], Field(min_length=1)]
    proxystore_dir: _Text | None = None


class CollectionArguments(Arguments):
    """A directory of a Globus collection, as Globus and as its machine call it; names of that machine."""

    endpoint_path: _Text
    local_path: _Text
    host_regex: _Text


class GlobusArguments(Arguments):
    """``timeout`` is for the transfer of one model."""

    endpoints: Annotated[dict[UUID, CollectionArguments], Field(min_length=2)]
    polling_interval: _Seconds = 2.0
    sync_level: Literal["exists", "size", "mtime", "checksum"] | None = None
    timeout: _Seconds = 3600.0
    clear: bool = False
    buffering: int = -1


ARGUMENTS: Mapping[str, type[Arguments]] = {
    "EndpointConnector": EndpointArguments,
    "RedisConnector": RedisArguments,
    "FileConnector": FileArguments,
    "GlobusConnector": GlobusArguments,
}
"""The connectors that serve."""


def check_configs(connector_type: str | None, configs: Mapping[str, object]) -> list[str]:
    """What is wrong with ``connector_type`` and ``connector_configs``, a sentence each; nothing if they serve."""
    if not connector_type:
        return [f"`connector_type` is missing; it is one of {', '.join(ARGUMENTS)}."]
    if connector_type in REFUSED:
        return [f"{connector_type} is not used: {REFUSED[connector_type]}"]
    if connector_type not in ARGUMENTS:
        near = _near(connector_type, [*ARGUMENTS, *REFUSED])
        return [f"There is no connector {connector_type!r}.{near} Connectors are {', '.join(ARGUMENTS)}."]
    model = ARGUMENTS[connector_type]
    try:
        model.model_validate(dict(configs))
    except ValidationError as error:
        return [_sentence(connector_type, model, problem) for problem in error.errors()]
    return []


def without_effect(connector_type: str, configs: Mapping[str, object]) -> list[str]:
    """Which of valid ``configs`` change nothing here, a sentence each."""
    return [
        f"`{name}` of {connector_type} has no effect: "
        + ("only what a run has put itself is ever deleted." if name == "clear" else "files are mapped.")
        for name in _WITHOUT_EFFECT
        if configs.get(name)
    ]


def arguments(connector_type: str, configs: Mapping[str, object]) -> Arguments:
    """``configs``, checked; raises ``UsageError``."""
    if problems := check_configs(connector_type, configs):
        raise UsageError(
            " ".join(problems), "See connector_type and connector_configs under proxystore_configs."
        )
    return ARGUMENTS[connector_type].model_validate(dict(configs))


def _sentence(connector: str, model: type[Arguments], problem: Mapping[str, object]) -> str:
    place = problem["loc"]
    steps = [str(step) for step in place] if isinstance(place, tuple) else []
    name = ".".join(steps)
    if problem["type"] == "missing":
        return f"{connector} needs `{name}`."
    if problem["type"] == "extra_forbidden":
        known = list(model.model_fields)
        return (
            f"{connector} has no keyword argument `{name}`.{_near(name, known)} It takes {', '.join(known)}."
        )
    said = str(problem["msg"])
    return f"`{name}` of {connector} does not fit: {said[:1].lower()}{said[1:].rstrip('.')}."


def _near(name: str, known: Iterable[str]) -> str:
    by_lower = {item.lower(): item for item in known}
    found = difflib.get_close_matches(name.lower(), by_lower, 1, 0.5)
    return f" Did you mean {by_lower[found[0]]}?" if found else ""
