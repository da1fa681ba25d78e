"""Client profiles from a YAML file: groups of clients that are alike."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from appfl_gc.config.diagnostic import ConfigError
from appfl_gc.config.document import Document, KeyPath, read_document, show_key
from appfl_gc.config.findings import Findings, did_you_mean
from appfl_gc.protocol.errors import UserCodeError
from appfl_gc.simulation.availability import Availability
from appfl_gc.simulation.draws import (
    MOST,
    MOST_SIGMA,
    Chance,
    Constant,
    Draw,
    Exponential,
    Jittered,
    Lognormal,
    Normal,
)
from appfl_gc.simulation.profile import ClientProfile

DISTRIBUTIONS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"normal": ("mean", "sigma"), "exponential": ("mean",), "lognormal": ("mean", "sigma")}
)
DURATIONS = ("step_seconds", "queue_seconds", "overhead_seconds", "transfer_seconds")
KEYS = ("name", "count", *DURATIONS, "loss", "down", "down_every", "samples")
MOST_CLIENTS = 1_000_000


@dataclass(frozen=True)
class _Duration:
    """A distribution as the file describes it.

    Attributes:
        draw: the distribution.
        once: it is drawn once for each client.
        jitter: see ``Jittered``.
    """

    draw: Draw
    once: bool = False
    jitter: float = 0.0

    def of(self, seed: int, client: str, name: str) -> Draw:
        """The durations of one client."""
        draw = Constant(self.draw.draw(Chance(seed, client, 0, name))) if self.once else self.draw
        return Jittered(draw, self.jitter) if self.jitter else draw


def read_profiles(path: str | Path, seed: int = 0) -> tuple[ClientProfile, ...]:
    """The clients that a profile file describes, in its order.

    Args:
        path: the file.
        seed: what durations that are drawn once for a client are derived from.

    Raises:
        ConfigError: if something in it is wrong; it has all errors with file, line and key.
    """
    document = read_document(path, "`groups:`")
    findings = Findings()
    findings.extend(document.problems)
    profiles = _File(document, findings, seed).profiles()
    if found := findings.diagnostics():
        raise ConfigError(found)
    return profiles


class _File:
    """One reading of a profile file."""

    def __init__(self, document: Document, findings: Findings, seed: int) -> None:
        self._document = document
        self._findings = findings
        self._seed = seed
        self._total = 0

    def profiles(self) -> tuple[ClientProfile, ...]:
        for name in self._document.tree:
            if name != "groups":
                self._error((name,), f"The key `{name}` is unknown.", "The file has the key groups.")
        groups = self._document.get(("groups",))
        if not isinstance(groups, list) or not groups:
            self._error(
                ("groups",), "Expected a list of groups of clients.", "Each begins with `- name: ...`."
            )
            return ()
        profiles = [profile for index, group in enumerate(groups) for profile in self._group(index, group)]
        seen: set[str] = set()
        for profile in profiles:
            if profile.client in seen:
                self._error(("groups",), f"Two clients are called {profile.client!r}.", "Rename a group.")
                break
            seen.add(profile.client)
        return tuple(profiles)

    def _group(self, index: int, group: Any) -> list[ClientProfile]:
        place: KeyPath = ("groups", index)
        if not isinstance(group, dict):
            self._error(place, "Expected a block of keys for each group.")
            return []
        for key in group:
            if key not in KEYS:
                hint = did_you_mean(key, KEYS) or f"A group has the keys {', '.join(KEYS)}."
                self._error((*place, key), f"The key `{key}` is unknown.", hint)
        name = group.get("name")
        if not isinstance(name, str) or not name.strip():
            self._error(
                (*place, "name"),
                "Each group must have a name, which is text.",
                "Such as `name: cluster`; with `count: 3` its clients are cluster-1 to cluster-3.",
            )
            name = f"group {index + 1}"
        count = self._whole((*place, "count"), group.get("count", 1), least=1)
        self._total += count
        if self._total > MOST_CLIENTS:
            self._error((*place, "count"), f"A simulation has at most {MOST_CLIENTS:,} clients.")
            return []
        if "step_seconds" not in group:
            self._error((*place, "step_seconds"), "The key is missing and must be given.")
        durations = {key: self._duration((*place, key), group.get(key, 0.0)) for key in DURATIONS}
        loss = self._number((*place, "loss"), group.get("loss", 0.0))
        if loss >= 1:
            self._error((*place, "loss"), f"Expected a chance from 0 to below 1, found {loss}.")
            loss = 0.0
        samples = self._whole((*place, "samples"), group.get("samples", 0))
        availability = self._availability(place, group)
        names = [name] if count == 1 else [f"{name}-{number}" for number in range(1, count + 1)]
        return [
            ClientProfile(
                client,
                **{key: duration.of(self._seed, client, key) for key, duration in durations.items()},
                loss=loss,
                availability=availability,
                sample_size=samples,
                group=name,
            )
            for client in names
        ]

    def _duration(self, path: KeyPath, value: Any) -> _Duration:
        if not isinstance(value, dict):
            return _Duration(Constant(self._number(path, value)))
        kind = str(value.get("distribution", ""))
        if kind not in DISTRIBUTIONS:
            known = ", ".join(DISTRIBUTIONS)
            hint = did_you_mean(kind, DISTRIBUTIONS)
            self._error((*path, "distribution"), f"Expected one of {known}, found {kind!r:.100}.", hint)
            return _Duration(Constant(0.0))
        wanted = DISTRIBUTIONS[kind]
        keys = ("distribution", *wanted, "drawn", "jitter")
        for key in value:
            if key not in keys:
                hint = did_you_mean(key, keys) or f"It has the keys {', '.join(keys)}."
                self._error((*path, key), f"The key `{key}` is unknown in a {kind} distribution.", hint)
        numbers = []
        for key in wanted:
            if key not in value:
                self._error((*path, key), f"The key is missing; a {kind} distribution needs it.")
            most = MOST_SIGMA if kind == "lognormal" and key == "sigma" else MOST
            numbers.append(self._number((*path, key), value.get(key, 0.0), most))
        jitter = self._number((*path, "jitter"), value.get("jitter", 0.0), MOST_SIGMA)
        drawn = value.get("drawn", "each")
        if drawn not in ("once", "each"):
            self._error(
                (*path, "drawn"),
                f"Expected `once` or `each`, found {drawn!r}.",
                "`once` draws one value for each client, `each` one for each dispatch.",
            )
        return _Duration(_draw(kind, numbers), drawn == "once", jitter)

    def _availability(self, place: KeyPath, group: dict[str, Any]) -> Availability:
        every = self._number((*place, "down_every"), group.get("down_every", 0.0))
        windows = group.get("down", [])
        path = (*place, "down")
        if not isinstance(windows, list) or not all(isinstance(w, list) and len(w) == 2 for w in windows):
            self._error(path, "Expected a list of windows.", "Such as [[3600, 7200]], in seconds.")
            return Availability()
        limits = [
            (self._number((*path, n), begin), self._number((*path, n), end, math.inf))
            for n, (begin, end) in enumerate(windows)
        ]
        try:
            availability = Availability(tuple(limits), every)
        except UserCodeError as error:
            self._error(path, error.message)
            return Availability()
        if math.isinf(availability.first_up()):
            self._error(path, "The client never comes up.")
        return availability

    def _number(self, path: KeyPath, value: Any, most: float = MOST) -> float:
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= most:
            return float(value)
        span = "0 or more" if math.isinf(most) else f"0 to {most:g}"
        self._error(path, f"Expected a number of {span}, found {value!r:.100}.")
        return 0.0

    def _whole(self, path: KeyPath, value: Any, least: int = 0) -> int:
        if isinstance(value, int) and not isinstance(value, bool) and value >= least:
            return value
        self._error(path, f"Expected a whole number of {least} or more, found {value!r:.100}.")
        return least

    def _error(self, path: KeyPath, message: str, hint: str = "") -> None:
        self._findings.error(message, self._document.mark(path), show_key(path), hint)


def _draw(kind: str, numbers: list[float]) -> Draw:
    if kind == "exponential":
        return Exponential(numbers[0])
    return Normal(*numbers) if kind == "normal" else Lognormal(*numbers)
