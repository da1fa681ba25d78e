"""What is known of a facility: defaults for an endpoint there, its own endpoints, and who says so."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from types import MappingProxyType
from typing import Any

import yaml

from appfl_gc.hpc.knobs import KNOBS, Provider
from appfl_gc.protocol.errors import UsageError
from appfl_gc.protocol.wire import Json

_FOLDER = "facilities"


@dataclass(frozen=True)
class Source:
    """Where a fact comes from.

    Attributes:
        url: the page.
        read: the day it was read, YYYY-MM-DD.
        says: what was taken from it.
    """

    url: str
    read: str
    says: str


@dataclass(frozen=True)
class SharedEndpoint:
    """A multi-user endpoint that the facility itself runs.

    Attributes:
        name: as `facility show NAME` takes it.
        endpoint_id: its UUID, as the facility publishes it.
        title: one line.
        config: a ready ``user_endpoint_config``; values in <angle brackets> are the user's to fill.
        requirements: what the worker's environment must install, one pip requirement each.
        stop: what to do there when jobs are submitted over and over.
        job_logs: where the output of its jobs lies.
        notes: what else to know, a sentence each.
    """

    name: str
    endpoint_id: str
    title: str
    config: Mapping[str, Json]
    requirements: tuple[str, ...]
    stop: str
    job_logs: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Facility:
    """A kind of machine, or one machine.

    Attributes:
        name: as `--facility NAME` takes it.
        title: one line.
        provider: what starts workers there.
        run_there: whether an endpoint of these defaults has run there.
        defaults: values of ``KNOBS`` by name.
        sources: who says so.
        prelude: shell lines before this environment is activated (modules, proxies).
        shared: endpoints that the facility runs itself.
        notes: what else to know, a sentence each.
    """

    name: str
    title: str
    provider: Provider
    run_there: bool
    defaults: Mapping[str, Json]
    sources: tuple[Source, ...] = ()
    prelude: str = ""
    extra_provider: Mapping[str, Json] = field(default_factory=dict)
    extra_engine: Mapping[str, Json] = field(default_factory=dict)
    shared: tuple[SharedEndpoint, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def described_as(self) -> str:
        """Whether it was tried, as a person reads it."""
        return "run there" if self.run_there else "not run there"


def facility_names() -> list[str]:
    """The names that `--facility` takes, sorted."""
    folder = resources.files("appfl_gc.hpc").joinpath(_FOLDER)
    return sorted(
        entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml")
    )


def load_facility(name: str) -> Facility:
    """Read the data of one facility.

    Raises:
        UsageError: if there is none of this name.
    """
    names = facility_names()
    if name not in names:
        raise UsageError(
            f"There is no facility `{name}`.",
            f"There are {', '.join(names)}. For another cluster take `pbs` or `slurm` and give its settings.",
        )
    text = resources.files("appfl_gc.hpc").joinpath(_FOLDER, f"{name}.yaml").read_text(encoding="utf-8")
    return _parse(name, yaml.safe_load(text))


def all_facilities() -> Iterator[Facility]:
    """Every facility, by name."""
    for name in facility_names():
        yield load_facility(name)


def shared_endpoint(name: str) -> tuple[Facility, SharedEndpoint] | None:
    """The facility-run endpoint of this name with its facility, or ``None``."""
    for facility in all_facilities():
        for endpoint in facility.shared:
            if endpoint.name == name:
                return facility, endpoint
    return None


def facility_of_endpoint(endpoint_id: str) -> tuple[Facility, SharedEndpoint] | None:
    """The facility-run endpoint of this UUID with its facility, or ``None`` if it is nobody's we know."""
    for facility in all_facilities():
        for endpoint in facility.shared:
            if endpoint.endpoint_id == endpoint_id.lower():
                return facility, endpoint
    return None


def _parse(name: str, data: Mapping[str, Any]) -> Facility:
    defaults = {key: KNOBS[key].check(value) for key, value in data.get("defaults", {}).items()}
    return Facility(
        name=name,
        title=data["title"],
        provider=Provider(data["provider"]),
        run_there=data["run_there"],
        defaults=MappingProxyType(defaults),
        sources=tuple(Source(s["url"], str(s["read"]), s["says"]) for s in data.get("sources", ())),
        prelude=data.get("prelude", ""),
        extra_provider=MappingProxyType(data.get("extra_provider", {})),
        extra_engine=MappingProxyType(data.get("extra_engine", {})),
        shared=tuple(_shared(entry) for entry in data.get("shared", ())),
        notes=_texts(data.get("notes", ())),
    )


def _shared(data: Mapping[str, Any]) -> SharedEndpoint:
    return SharedEndpoint(
        name=data["name"],
        endpoint_id=data["endpoint_id"],
        title=data["title"],
        config=MappingProxyType(data["config"]),
        requirements=_texts(data["requirements"]),
        stop=data["stop"],
        job_logs=data["job_logs"],
        notes=_texts(data.get("notes", ())),
    )


def _texts(values: Sequence[str]) -> tuple[str, ...]:
    return tuple(str(value) for value in values)
