"""ProxyStore's connectors by name: which serve, what they take, and why the others are refused.

ProxyStore is not imported for this.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from appfl_gc.config.connector_problems import Problem, near, problem_of
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


def check_configs(connector_type: str | None, configs: Mapping[str, object]) -> list[Problem]:
    """What is wrong with ``connector_type`` and ``connector_configs``; nothing if they serve."""
    at = ("connector_type",)
    if not connector_type:
        return [Problem(at, f"`connector_type` is missing; it is one of {', '.join(ARGUMENTS)}.")]
    if connector_type in REFUSED:
        return [Problem(at, f"{connector_type} is not used: {REFUSED[connector_type]}")]
    if connector_type not in ARGUMENTS:
        meant = near(connector_type, [*ARGUMENTS, *REFUSED])
        sentence = f"There is no connector {connector_type!r}.{meant} Connectors are {', '.join(ARGUMENTS)}."
        return [Problem(at, sentence)]
    model = ARGUMENTS[connector_type]
    try:
        model.model_validate(dict(configs))
    except ValidationError as error:
        known = {"": [*model.model_fields], "endpoints": [*CollectionArguments.model_fields]}
        return [problem_of(connector_type, known, {**detail}) for detail in error.errors(include_url=False)]
    return []


def without_effect(connector_type: str, configs: Mapping[str, object]) -> list[Problem]:
    """Which of valid ``configs`` change nothing here."""
    return [
        Problem(
            ("connector_configs", name),
            f"`{name}` of {connector_type} has no effect: "
            + ("only what a run has put itself is ever deleted." if name == "clear" else "files are mapped."),
        )
        for name in _WITHOUT_EFFECT
        if configs.get(name)
    ]


def placeholders(given: Arguments) -> list[Problem]:
    """Whether valid arguments still have UUIDs of the examples, which are one digit repeated."""
    endpoints = given.endpoints if isinstance(given, EndpointArguments | GlobusArguments) else ()
    if not any(len(set(one.hex)) == 1 for one in endpoints):
        return []
    return [
        Problem(
            ("connector_configs", "endpoints"),
            "These are the example's UUIDs, not those of your endpoints.",
            "Put in the UUIDs of your own, the server's and the clients'; `proxystore-endpoint list` shows them."
            if isinstance(given, EndpointArguments)
            else "Put in the UUIDs of your own collections, as https://app.globus.org shows them.",
        )
    ]


def arguments(connector_type: str, configs: Mapping[str, object]) -> Arguments:
    """``configs``, checked; raises ``UsageError``."""
    if problems := check_configs(connector_type, configs):
        raise UsageError(
            " ".join(problem.sentence for problem in problems),
            " ".join(problem.hint for problem in problems if problem.hint)
            or "See connector_type and connector_configs under proxystore_configs.",
        )
    return ARGUMENTS[connector_type].model_validate(dict(configs))
