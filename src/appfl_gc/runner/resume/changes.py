"""What changed in the configuration since a run began, and whether the run can go on with it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from appfl_gc.config.document import KeyPath, show_key
from appfl_gc.config.federation import LOCAL, Federation
from appfl_gc.config.merging import Layered
from appfl_gc.config.schema.block import Block, Status, block_of, support_of
from appfl_gc.config.schema.client import Client
from appfl_gc.config.schema.server_configs import ServerConfigs
from appfl_gc.protocol.errors import UsageError
from appfl_gc.protocol.free_keys import FREE_KEYS, LOGGING
from appfl_gc.protocol.redaction import shown
from appfl_gc.protocol.wire import Json, as_object, load_json
from appfl_gc.runner.doctor.row import named
from appfl_gc.runner.resume.past import PastRun
from appfl_gc.version import VERSION

Views: TypeAlias = Iterable[tuple[str, Layered, Block]]
"""Title, merged block and typed block of the server and of each client, as ``Examination`` has them."""

SERVER = "server"
COUNT_UPDATES = ("AsyncScheduler", "CompassScheduler")
"""Schedulers whose ``num_global_epochs`` are client updates."""
EPOCHS = ("num_global_epochs",)
NO_BITS: tuple[KeyPath, ...] = (
    ("comm_configs", "s3_configs", "s3_creds_file"),
    ("comm_configs", "s3_configs", "endpoint_url"),
    ("comm_configs", "s3_configs", "expected_queue_wait_seconds"),
    ("comm_configs", "globus_compute_configs", "s3_creds_file"),
    ("comm_configs", "proxystore_configs", "connector_configs"),
)
"""Where a store is and who may use it. Another bucket or connector would leave behind what is on its way."""
# Of source files the text counts, not the place.
FREE_OF_SERVER: tuple[KeyPath, ...] = (
    ("fault_tolerance_configs",),
    ("control_configs",),
    ("aggregator_path",),
    ("scheduler_path",),
    ("val_data_configs", "dataset_path"),
    *NO_BITS,
)
FREE_OF_CLIENT: tuple[KeyPath, ...] = (
    ("user_endpoint_config",),
    ("resource_specification",),
    ("credentials",),
    ("train_configs", "loss_fn_path"),
    ("train_configs", "metric_path"),
    ("train_configs", "trainer_path"),
    ("model_configs", "model_path"),
    ("data_configs", "dataset_path"),
    *(("train_configs", key) for key in FREE_KEYS),
    *NO_BITS,
)
HINT = (
    "Undo this to go on with the run. To train on with another configuration, start a new run from this one's model: "
    "`appfl-gc run --init-model RUN_DIR/checkpoints/last.safetensors`."
)


class ConfigurationChangedError(UsageError):
    """The configuration is not the one that the run began with. ``changes``: what is in the way."""

    def __init__(self, changes: Sequence[Change]) -> None:
        self.changes = tuple(changes)
        lines = "\n".join(f"  {line}" for line in describe(changes))
        super().__init__(f"The configuration has changed in what a run keeps to its end:\n{lines}", HINT)


@dataclass(frozen=True)
class Change:
    """One value that is another now.

    Attributes:
        owner: the client, or ``server``.
        key: as people write it, below its owner.
        before, now: the values, without secrets; None for none.
        may_change: whether the run can go on with the new one.
        place: ``file:line`` of the value now, or "".
        why: a sentence about this change, or "".
    """

    owner: str
    key: str
    before: Json
    now: Json
    may_change: bool
    place: str = ""
    why: str = ""

    def to_json(self) -> dict[str, Json]:
        """The JSON form."""
        return {
            "owner": self.owner,
            "key": self.key,
            "before": self.before,
            "now": self.now,
            "may_change": self.may_change,
            "place": self.place,
        }


def changes(
    recorded: Mapping[str, Any],
    federation: Federation,
    done: int,
    *,
    same_program: bool = True,
    views: Views = (),
) -> list[Change]:
    """Compare a configuration with that of a run.

    Args:
        recorded: what ``Federation.resolved`` gave when the run began, from its ``config.json``.
        federation: the configuration now.
        done: rounds that are done, or updates where ``num_global_epochs`` counts those.
        same_program: whether the run began with this version of the program; another one may have keys that the record
            lacks, and those count as unchanged.
        views: of the examination that made ``federation``, for the lines of the files.
    """
    comparison = _Comparison(same_program, {title: block for title, block, _ in views}, done)
    return list(comparison.all(recorded, federation))


def changes_since(past: PastRun, federation: Federation, views: Views = ()) -> list[Change]:
    """What has changed since ``past`` began; ``views`` as in ``changes``.

    Raises:
        UsageError: if what the run recorded can't be read.
    """
    path = past.directory.path / "config.json"
    try:
        recorded = as_object(load_json(path.read_text("utf-8")), "The configuration")
    except (OSError, ValueError) as error:
        raise UsageError(
            f"{path} can't be read: {error}",
            "Without it nobody can tell whether the configuration has changed.",
        ) from None
    by_updates = federation.server_configs.scheduler in COUNT_UPDATES
    done = past.rounds.updates if by_updates else past.rounds.rounds
    return changes(recorded, federation, done, same_program=past.program == VERSION, views=views)


def check_unchanged(past: PastRun, federation: Federation, views: Views = ()) -> list[Change]:
    """What has changed since ``past`` began, all of which may.

    Raises:
        ConfigurationChangedError: if a run can't go on with one of the changes.
        UsageError: if what the run recorded can't be read.
    """
    found = changes_since(past, federation, views)
    refuse(found)
    return found


def refuse(found: Iterable[Change]) -> None:
    """Raise ``ConfigurationChangedError`` if a run can't go on with one of the changes."""
    refused = [change for change in found if not change.may_change]
    if refused:
        raise ConfigurationChangedError(refused)


def describe(found: Iterable[Change]) -> list[str]:
    """A line for each change; clients that share one share its line."""
    owners: dict[tuple[str, str], list[str]] = {}
    for change in found:
        what = f"{change.key}: was {_shown(change, change.before)}, is {_shown(change, change.now)}. {change.why}"
        owners.setdefault((change.place, what.rstrip()), []).append(change.owner)
    return [
        ": ".join(part for part in (place, _named(names), what) if part)
        for (place, what), names in owners.items()
    ]


def _shown(change: Change, value: Json) -> str:
    return "not set" if value is None else shown(change.key.rpartition(".")[2], value)


def _named(owners: Sequence[str]) -> str:
    if owners == [SERVER]:
        return ""
    return f"client {owners[0]}" if len(owners) == 1 else f"clients {named(owners)}"


@dataclass(frozen=True)
class _Comparison:
    same_program: bool
    blocks: Mapping[str, Layered]
    done: int

    def all(self, recorded: Mapping[str, Any], federation: Federation) -> Iterator[Change]:
        now: Mapping[str, Any] = federation.resolved()
        yield from self._server(recorded.get("server_configs") or {}, now["server_configs"])
        before = {client["client_id"]: client for client in recorded.get("clients") or ()}
        after = {client["client_id"]: client for client in now["clients"]}
        if list(before) != list(after):
            why = "A run keeps its clients, and their order."
            yield Change(SERVER, "clients", [*before], [*after], False, str(federation.client_path), why)
        for name in after:
            if name in before:
                yield from self._client(name, before[name], after[name])
        yield from _sources(recorded.get("sources") or {}, now["sources"])

    def _server(self, before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[Change]:
        for path, old, new in self._differences(before, now):
            why = ""
            free = _is_free(path, FREE_OF_SERVER, ServerConfigs)
            if path == EPOCHS:
                free = isinstance(new, int) and new >= self.done
                why = "" if free else f"{self.done} are done."
            key = f"server_configs.{show_key(path)}"
            yield Change(SERVER, key, old, new, free, self._place(SERVER, path), why)

    def _client(self, name: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[Change]:
        for path, old, new in self._differences(before, now):
            why = ""
            free = _is_free(path, FREE_OF_CLIENT, Client)
            if path == ("endpoint_id",):
                free = LOCAL not in (old, new)
                why = "" if free else "A rehearsal on this machine stays one."
            yield Change(name, show_key(path), old, new, free, self._place(f"client {name}", path), why)

    def _differences(
        self, before: Mapping[str, Any], now: Mapping[str, Any], at: KeyPath = ()
    ) -> Iterator[tuple[KeyPath, Json, Json]]:
        for name in dict.fromkeys([*before, *now]):
            path = (*at, name)
            old, new = before.get(name), now.get(name)
            if old == new or (name not in before and not self.same_program):
                continue
            if isinstance(old, Mapping) and isinstance(new, Mapping):
                yield from self._differences(old, new, path)
            else:
                yield path, old, new

    def _place(self, title: str, path: KeyPath) -> str:
        block = self.blocks.get(title)
        found = None if block is None else block.origin(path)
        return "" if found is None else str(found[0])


def _is_free(path: KeyPath, free: Sequence[KeyPath], block: type[Block]) -> bool:
    if str(path[-1]).startswith(LOGGING):
        return True
    return any(path[: len(some)] == some for some in free) or not _has_effect(path, block)


def _has_effect(path: KeyPath, block: type[Block]) -> bool:
    """Whether anything reads the key at ``path`` of ``block``; undeclared keys are read by the user's code."""
    field = block.model_fields.get(str(path[0]))
    if field is None:
        return True
    if support_of(field).status in (Status.IGNORED, Status.NEVER):
        return False
    inner = block_of(field)
    return inner is None or len(path) == 1 or _has_effect(path[1:], inner)


def _sources(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[Change]:
    """Source files whose text is another; ``before`` and ``now`` are by ``owner.kind``."""
    for name in dict.fromkeys([*before, *now]):
        old, new = before.get(name), now.get(name)
        if _identity(old) != _identity(new):
            owner, _, kind = name.rpartition(".")
            place = "" if new is None else str(new["file"])
            yield Change(owner, f"the {kind} source", _content(old), _content(new), False, place)


def _identity(source: Mapping[str, Any] | None) -> object:
    """What must stay: the text; where a site has it, its name there."""
    return None if source is None else source["sha256"] or source["name"]


def _content(source: Mapping[str, Any] | None) -> Json:
    if source is None:
        return None
    return f"sha256 {source['sha256'][:12]}" if source["sha256"] else f"site:{source['name']}"
