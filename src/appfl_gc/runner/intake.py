"""Updates that arrive: through the gate into a slot of the arena, and into the books."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from appfl_gc.payload.grants import granted, large_part
from appfl_gc.payload.inline_store import InlineStore
from appfl_gc.protocol.call import Call
from appfl_gc.protocol.errors import AppflGcError, UpdateRefusedError
from appfl_gc.protocol.measures import Timing
from appfl_gc.protocol.reference import Ref
from appfl_gc.protocol.reply import Reply
from appfl_gc.protocol.schedule import UpdateId, UpdateMeta
from appfl_gc.protocol.schedule_json import meta_to_json
from appfl_gc.protocol.wire import Json, WireError, as_count, as_finite, as_object, clean_text
from appfl_gc.runner.events import ClientChanged, ClientState, ClientTrained
from appfl_gc.runner.flight import InFlight, Landing
from appfl_gc.runner.journal import Journal
from appfl_gc.runner.metrics import MetricsFile, numeric_metrics
from appfl_gc.runner.recorder import Recorder
from appfl_gc.runner.slots import Slots


@dataclass(frozen=True)
class Accepted:
    """An accepted update: what is known of it, its slot, its payload, and the file that keeps it until it is folded."""

    meta: UpdateMeta
    slot: int
    reference: Ref
    kept: Path


class Intake:
    """Accepts updates and keeps them until they are folded.

    Args:
        slots: of the arena.
        journal, metrics, recorder: hear of what is accepted.
        most_samples: training examples that a client may say it has; None for any number.
    """

    def __init__(
        self,
        slots: Slots,
        journal: Journal,
        metrics: MetricsFile,
        recorder: Recorder,
        most_samples: int | None = None,
    ) -> None:
        self._most_samples = most_samples
        self._slots = slots
        self._journal = journal
        self._metrics = metrics
        self._recorder = recorder
        self._accepted: dict[UpdateId, Accepted] = {}
        self._grants: dict[UpdateId, list[Mapping[str, Json]]] = {}

    def expect(self, call: Call) -> None:
        """``call`` is about to go out: its reply may use its grant, or that of an earlier attempt."""
        self.expect_by(UpdateId.of(call.identity), as_object(call.args["grant"], "The grant"))

    def expect_by(self, update: UpdateId, grant: Mapping[str, Json]) -> None:
        """``update`` may come by ``grant``, or by what of it is public."""
        self._grants.setdefault(update, []).append(grant)

    @property
    def full(self) -> bool:
        """Whether no slot is free: the scheduler keeps more updates than schedulers may."""
        return self._slots.full

    def begin(self, flight: InFlight, reply: Reply, answered: float) -> Landing:
        """Check what ``reply``, which has no error, says of its update, and keep a slot for that.

        Raises:
            WireError: if the reply lacks something, or names a payload that it was not to make.
            UpdateRefusedError: if the client says that it has more training examples than it may have.
        """
        call = flight.call
        reference = reply.payloads.get("update")
        if reference is None:
            raise WireError("The reply has no update.")
        if not any(granted(grant, reference) for grant in self._grants.get(UpdateId.of(call.identity), ())):
            raise WireError("The reply names a payload that is not the one it was to make.")
        sample_size = self.sample_size(reply)
        return Landing(
            flight, reply, answered, reference, sample_size, self._slots.take(call.identity.client)
        )

    def sample_size(self, reply: Reply) -> int:
        """Training examples that ``reply`` tells, of a client or of an update.

        Raises:
            WireError: if it tells none.
            UpdateRefusedError: if they are more than a client may have.
        """
        sample_size = as_count(reply.values.get("sample_size"), "The sample size")
        if self._most_samples is not None and sample_size > self._most_samples:
            raise UpdateRefusedError(
                f"The client says that it has {sample_size:,} training examples, more than "
                f"fault_tolerance_configs.max_sample_size allows ({self._most_samples:,}).",
                "Its updates would weigh accordingly, and the others' less. Raise the bound if the number is right.",
            )
        return sample_size

    def restore(self, accepted: Accepted) -> None:
        """An update that was accepted before the server began anew lies in its slot again."""
        self._accepted[accepted.meta.update] = accepted

    def give_up(self, landing: Landing) -> None:
        """The update did not pass: its slot is free again."""
        self._slots.give_back([landing.slot])

    def accept(self, landing: Landing, seconds: float, now: float) -> UpdateMeta:
        """The update has landed, after ``seconds``, at second ``now`` of the run: put it into the books."""
        flight, reply, reference, kept = landing.flight, landing.reply, landing.reference, landing.kept
        if kept is None:
            raise AppflGcError("An update was accepted that no file keeps.")
        identity = flight.call.identity
        update = UpdateId.of(identity)
        # No call takes longer than the run; what an earlier attempt took may be more than this one's turn-around.
        measures = reply.measures.within(now)
        split = Timing.split(landing.answered - flight.sent, measures)
        timing = replace(split, transfer=split.transfer + seconds)
        metrics = numeric_metrics(reply.values.get("metrics"))
        steps = _steps(measures.steps, flight.call)
        share = _share(reply.values.get("share"))
        meta = UpdateMeta(update, flight.version, landing.sample_size, steps, timing, metrics, share)
        self._warn_of_missing(identity.client, reply.values.get("metrics"), metrics)
        if metrics.get("client_state_lost"):
            self._recorder.log(
                f"Client {identity.client}: its site has lost what the trainer remembered of earlier tasks, so that "
                "it began anew.",
                logging.WARNING,
            )
        if share < 1:
            self._recorder.log(
                f"Client {identity.client}: its job was about to end, so that it did {steps} steps, {share:.0%} of its "
                "work; its update weighs that much less."
            )
        # The row first: what the journal does not know of is taken out of the metrics again at a resume.
        self._metrics.write(
            {
                **metrics,
                "kind": "client",
                "round": identity.round,
                "client": identity.client,
                "version": flight.version,
                "at": now,
                "sample_size": landing.sample_size,
                "steps": measures.steps,
                "queue_seconds": timing.queue,
                "compute_seconds": timing.compute,
                "transfer_seconds": timing.transfer,
                "bytes_up": reference.size,
                **({"share": share} if share < 1 else {}),
                **_compression(reply),
                **_states(flight, landing.answered),
            }
        )
        self._accepted[update] = Accepted(meta, landing.slot, reference, kept.path)
        self._journal.append(
            now,
            "arrived",
            client=identity.client,
            round=identity.round,
            attempt=identity.attempt,
            meta=meta_to_json(meta),
            reference=_at(reference).to_json(),
            kept=kept.path.name,
            kept_checksum=kept.checksum,
        )
        self._recorder.tell(
            ClientTrained(
                identity.client, identity.round, measures.steps, landing.sample_size, timing, metrics
            )
        )
        model = flight.call.payloads.get("model")
        down = 0 if model is None else model.size
        self._recorder.tell(
            ClientChanged(
                identity.client, ClientState.ARRIVED, identity.round, bytes_down=down, bytes_up=reference.size
            )
        )
        return meta

    def unused_grants(self, update: UpdateId, reference: Ref | None) -> list[Mapping[str, Json]]:
        """Grants of ``update`` by which nothing will come any more; ``reference``: what has come."""
        grants = self._grants.pop(update, [])
        used = [reference is not None and _lies_by(grant, reference) for grant in grants]
        return [grant for grant, uses in zip(grants, used, strict=True) if not uses]

    def _warn_of_missing(self, client: str, sent: Json, metrics: Mapping[str, float]) -> None:
        missing = sorted(name for name in sent if name not in metrics) if isinstance(sent, dict) else []
        if missing:
            names = clean_text(", ".join(missing), 300)
            self._recorder.log(
                f"Client {client}: {names} is not a finite number and is left out. Perhaps training diverged.",
                logging.WARNING,
            )

    def take(self, updates: Sequence[UpdateId]) -> list[Accepted]:
        """The accepted ``updates``, which are no longer kept; give their slots back with ``free``."""
        return [self._accepted.pop(update) for update in updates]

    def free(self, accepted: Sequence[Accepted]) -> None:
        """Updates are folded and the journal says so: give their slots back."""
        self._slots.give_back(update.slot for update in accepted)


def _steps(told: int, call: Call) -> int:
    """Steps that an update may count for: no more than were asked for, where the scheduler asked."""
    asked = as_object(call.args.get("task", {}), "The task").get("local_steps")
    return min(told, asked) if isinstance(asked, int) else told


def _share(value: Json) -> float:
    """The part of the work that a site says it did; 1 unless it is a number in (0, 1)."""
    share = as_finite(value)
    return share if share is not None and 0 < share < 1 else 1.0


def _at(reference: Ref) -> Ref:
    """``reference`` without the payload itself, which a small one carries."""
    return replace(reference, locator="") if reference.scheme == InlineStore.scheme else reference


def _lies_by(grant: Mapping[str, Json], reference: Ref) -> bool:
    return reference.scheme == large_part(grant).get("scheme") and granted(grant, reference)


def _compression(reply: Reply) -> dict[str, float]:
    """The columns ``compression_ratio`` and ``compression_error`` where the update was compressed."""
    told = numeric_metrics(reply.values.get("compression"))
    named = {"ratio": "compression_ratio", "largest_error": "compression_error"}
    return {column: told[name] for name, column in named.items() if name in told}


def _states(flight: InFlight, answered: float) -> dict[str, Json]:
    """The column ``seconds_in`` of a client's row, where the control plane tells how far calls are."""
    seconds = flight.seconds_in(answered)
    return {"seconds_in": {state: round(spent, 3) for state, spent in seconds.items()}} if seconds else {}
