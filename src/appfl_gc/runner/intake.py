"""Updates that arrive: through the gate into a slot of the arena, and into the books."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from appfl_gc.payload.arena import Arena
from appfl_gc.payload.stores import Stores, granted
from appfl_gc.protocol.errors import TransferError, UpdateRefusedError
from appfl_gc.protocol.measures import Timing
from appfl_gc.protocol.reference import Ref
from appfl_gc.protocol.reply import Reply
from appfl_gc.protocol.schedule import UpdateId, UpdateMeta
from appfl_gc.protocol.wire import Json, WireError, as_count, as_object, clean_text
from appfl_gc.runner.dispatcher import InFlight
from appfl_gc.runner.events import ClientChanged, ClientState, ClientTrained
from appfl_gc.runner.journal import Journal
from appfl_gc.runner.metrics import MetricsFile, numeric_metrics
from appfl_gc.runner.recorder import Recorder


@dataclass(frozen=True)
class Landed:
    """An accepted update: what is known of it, its slot, the client's metrics, and its payload."""

    meta: UpdateMeta
    slot: int
    metrics: Mapping[str, float]
    reference: Ref


class Intake:
    """Accepts updates and keeps them until they are folded.

    A client's update goes into the slot of its place among ``clients`` if that is free: rows in client order at
    equal distances are folded as they lie.
    """

    def __init__(
        self,
        clients: Sequence[str],
        arena: Arena,
        stores: Stores,
        journal: Journal,
        metrics: MetricsFile,
        recorder: Recorder,
    ) -> None:
        self._own_slot = {client: slot for slot, client in enumerate(clients)}
        self._arena = arena
        self._stores = stores
        self._journal = journal
        self._metrics = metrics
        self._recorder = recorder
        self._free = set(range(arena.slots))
        self._landed: dict[UpdateId, Landed] = {}

    def accept(self, flight: InFlight, reply: Reply, answered: float, now: float) -> UpdateMeta:
        """Land the update of ``reply``.

        Args:
            flight: the call that it answers.
            reply: without an error.
            answered: when it came, monotonic seconds.
            now: second of the run.

        Raises:
            WireError: if the reply lacks something.
            TransferError, UpdateRefusedError: if the update does not pass the gate; the slot stays free.
        """
        identity = flight.call.identity
        update = UpdateId(identity.client, identity.round)
        reference = reply.payloads.get("update")
        if reference is None:
            raise WireError("The reply has no update.")
        if not granted(as_object(flight.call.args["grant"], "The grant"), reference):
            raise WireError("The reply names a payload that is not the one it was to make.")
        sample_size = as_count(reply.values.get("sample_size"), "The sample size")
        own = self._own_slot[identity.client]
        slot = own if own in self._free else min(self._free)
        begun = time.monotonic()
        try:
            self._arena.land(slot, reference, self._stores)
        except UpdateRefusedError:
            self._evict(reference)
            raise
        self._free.remove(slot)
        split = Timing.split(answered - flight.sent, reply.measures)
        timing = Timing(split.queue, split.compute, split.transfer + time.monotonic() - begun)
        meta = UpdateMeta(update, flight.version, sample_size, reply.measures.steps, timing)
        metrics = numeric_metrics(reply.values.get("metrics"))
        self._warn_of_missing(identity.client, reply.values.get("metrics"), metrics)
        self._landed[update] = Landed(meta, slot, metrics, reference)
        self._journal.append(
            now,
            "arrived",
            client=identity.client,
            round=identity.round,
            attempt=identity.attempt,
            version=flight.version,
            checksum=reference.checksum,
            sample_size=sample_size,
            measures=reply.measures.to_json(),
            queue=timing.queue,
        )
        self._metrics.write(
            {
                **metrics,
                "kind": "client",
                "round": identity.round,
                "client": identity.client,
                "at": now,
                "sample_size": sample_size,
                "steps": meta.steps,
                "queue_seconds": timing.queue,
                "compute_seconds": timing.compute,
                "transfer_seconds": timing.transfer,
                "bytes_up": reference.size,
                **_states(flight, answered),
            }
        )
        self._recorder.tell(
            ClientTrained(identity.client, identity.round, meta.steps, sample_size, timing, metrics)
        )
        down = flight.call.payloads["model"].size
        self._recorder.tell(
            ClientChanged(
                identity.client, ClientState.ARRIVED, identity.round, bytes_down=down, bytes_up=reference.size
            )
        )
        return meta

    def _warn_of_missing(self, client: str, sent: Json, metrics: Mapping[str, float]) -> None:
        missing = sorted(name for name in sent if name not in metrics) if isinstance(sent, dict) else []
        if missing:
            names = clean_text(", ".join(missing), 300)
            self._recorder.log(
                f"Client {client}: {names} is not a finite number and is left out. Perhaps training diverged.",
                logging.WARNING,
            )

    def take(self, updates: Sequence[UpdateId]) -> list[Landed]:
        """The accepted ``updates``, which are no longer kept; give their slots back with ``free``."""
        return [self._landed.pop(update) for update in updates]

    def free(self, landed: Sequence[Landed]) -> None:
        """Updates are folded and the journal says so: give their slots back and let their payloads go."""
        for update in landed:
            self._arena.free(update.slot)
            self._free.add(update.slot)
            self._evict(update.reference)

    def _evict(self, reference: Ref) -> None:
        try:
            self._stores.evict(reference)
        except TransferError as error:
            self._recorder.log(str(error), logging.WARNING)


def _states(flight: InFlight, answered: float) -> dict[str, Json]:
    """The column ``seconds_in`` of a client's row, where the control plane tells how far calls are."""
    seconds = flight.seconds_in(answered)
    return {"seconds_in": {state: round(spent, 3) for state, spent in seconds.items()}} if seconds else {}
