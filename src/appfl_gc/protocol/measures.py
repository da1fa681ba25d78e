"""What a call cost, as the site measured it and as the server derives it."""

from __future__ import annotations

from dataclasses import dataclass

from appfl_gc.protocol.wire import Json, as_count, as_object, as_seconds


@dataclass(frozen=True)
class Measures:
    """Durations of one call at the site, in seconds of the site's own monotonic clock.

    Attributes:
        load: fetching the payload, building or finding dataset and model.
        train: local steps.
        validate: validation before and after them.
        encode: making the reply's payload.
        transfer: moving payloads to and from the store.
        steps: local optimiser steps that really ran.
    """

    load: float = 0.0
    train: float = 0.0
    encode: float = 0.0
    transfer: float = 0.0
    steps: int = 0
    validate: float = 0.0

    @property
    def compute(self) -> float:
        """Seconds of everything but transfers."""
        return self.load + self.train + self.validate + self.encode

    @property
    def site(self) -> float:
        """Seconds that the site accounts for."""
        return self.compute + self.transfer

    def to_json(self) -> dict[str, Json]:
        """The JSON form."""
        return {
            "load": self.load,
            "train": self.train,
            "encode": self.encode,
            "transfer": self.transfer,
            "steps": self.steps,
            "validate": self.validate,
        }

    @classmethod
    def from_json(cls, value: Json) -> Measures:
        """Parse the JSON form; raises ``WireError``."""
        fields = as_object(value, "The measures")

        def seconds(name: str, default: Json = None) -> float:
            return as_seconds(fields.get(name, default), f"Measure {name}")

        steps = as_count(fields.get("steps"), "Measure steps")
        return cls(
            seconds("load"),
            seconds("train"),
            seconds("encode"),
            seconds("transfer"),
            steps,
            seconds("validate", 0.0),
        )

    def within(self, seconds: float) -> Measures:
        """These, as they are or scaled down so that the site accounts for no more than ``seconds``."""
        # An eighth of each: their sum may be more than a float holds.
        parts = [self.load / 8, self.train / 8, self.encode / 8, self.transfer / 8, self.validate / 8]
        most = seconds / 8
        if sum(parts) <= most:
            return self
        factor = most / sum(parts)
        load, train, encode, transfer, validate = (part * factor * 8 for part in parts)
        return Measures(load, train, encode, transfer, self.steps, validate)


@dataclass(frozen=True)
class Timing:
    """A call's turn-around at the server split in three, in seconds. No two hosts' clocks are compared.

    Attributes:
        queue: turn-around minus what the site accounts for: batch queue, control plane, network.
        compute: loading, training, validating and encoding at the site.
        transfer: moving payloads.
        train: the part of ``compute`` that was local steps.
    """

    queue: float
    compute: float
    transfer: float
    train: float

    @classmethod
    def split(cls, turn_around: float, site: Measures) -> Timing:
        """Split the server's ``turn_around`` (seconds of its monotonic clock) by the site's measures."""
        return cls(
            queue=max(0.0, turn_around - site.site),
            compute=site.compute,
            transfer=site.transfer,
            train=site.train,
        )

    @property
    def turn_around(self) -> float:
        """Seconds from the dispatch to the accepted update."""
        return self.queue + self.compute + self.transfer

    @property
    def overhead(self) -> float:
        """Seconds of ``turn_around`` that do not depend on the number of local steps."""
        return self.turn_around - self.train
