"""What the failure policy is told by the configuration."""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from types import MappingProxyType
from typing import Any

from appfl_gc.config.schema.server_configs import FaultToleranceConfigs
from appfl_gc.protocol.errors import ErrorClass
from appfl_gc.protocol.wire import Json, WireError, as_count, as_object

PATIENT_RETRIES = 20
"""Retries of what passes when a batch system moves on, unless the configuration names the class."""
PATIENT: Mapping[ErrorClass, int] = MappingProxyType(
    {ErrorClass.WALLTIME: PATIENT_RETRIES, ErrorClass.QUEUE_LIMIT: PATIENT_RETRIES}
)


class OnMissing(str, enum.Enum):
    """What becomes of a round when a client's retries are used up."""

    WAIT = "wait"
    DROP = "drop"
    REPLACE = "replace"


@dataclass(frozen=True)
class PolicySettings:
    """How patient a run is; the keys of ``server_configs.fault_tolerance_configs``.

    Attributes:
        quorum: updates that a round needs, a number or a share of those that it asks for; where updates are folded
            as they come, clients that must take part.
        deadline_seconds: how long a dispatch may take, without its time in queues where that is known; None for any.
        retries: how often a call is tried again after a failure of each class that is not in ``retries_of``.
        retries_of: the same of single classes.
        retry_seconds: pause before the second retry, above 0; doubled for each further one.
        on_missing: what becomes of a round when a client's retries are used up.
        set_aside_after: dispatches in a row that must fail for good until a client is set aside, at least 1.
        try_again_seconds: after how long a client that was set aside is greeted again, doubled while that does not
            help; 0 for never.
        stop_below: the run ends when fewer clients take part.
    """

    quorum: int | float = 0.5
    deadline_seconds: float | None = None
    retries: int = 2
    retries_of: Mapping[ErrorClass, int] = field(default_factory=lambda: PATIENT)
    retry_seconds: float = 5.0
    on_missing: OnMissing = OnMissing.DROP
    set_aside_after: int = 1
    try_again_seconds: float = 600.0
    stop_below: int = 1

    @classmethod
    def of(cls, configs: FaultToleranceConfigs) -> PolicySettings:
        """The settings that ``configs`` says."""
        given = configs.retries
        named = (
            {ErrorClass(name): number for name, number in given.items()} if isinstance(given, Mapping) else {}
        )
        return cls(
            quorum=configs.quorum,
            deadline_seconds=configs.deadline_seconds,
            retries=given if isinstance(given, int) else cls.retries,
            retries_of=MappingProxyType({**PATIENT, **named}),
            retry_seconds=configs.retry_seconds,
            on_missing=OnMissing(configs.on_missing),
            set_aside_after=configs.set_aside_after,
            try_again_seconds=configs.try_again_seconds,
            stop_below=configs.stop_below,
        )

    def to_json(self) -> dict[str, Json]:
        """The JSON form."""
        return {
            "quorum": self.quorum,
            "deadline_seconds": self.deadline_seconds,
            "retries": self.retries,
            "retries_of": {kind.value: number for kind, number in sorted(self.retries_of.items())},
            "retry_seconds": self.retry_seconds,
            "on_missing": self.on_missing.value,
            "set_aside_after": self.set_aside_after,
            "try_again_seconds": self.try_again_seconds,
            "stop_below": self.stop_below,
        }

    @classmethod
    def from_json(cls, value: Json) -> PolicySettings:
        """Those of a JSON form; raises ``WireError``."""
        fields: dict[str, Any] = dict(as_object(value, "The settings of the policy"))
        named = as_object(fields.get("retries_of"), "retries_of")
        try:
            fields["retries_of"] = MappingProxyType(
                {ErrorClass(name): as_count(number, name) for name, number in named.items()}
            )
            fields["on_missing"] = OnMissing(fields.get("on_missing"))
            return cls(**fields)
        except (TypeError, ValueError) as error:
            raise WireError(f"The settings of the policy are malformed: {error}.") from None

    def retries_for(self, error_class: ErrorClass) -> int:
        """How often a call is tried again after failures of ``error_class``; 0 for what would fail again."""
        if not error_class.infrastructure:
            return 0
        return self.retries_of.get(error_class, self.retries)

    def needed_of(self, size: int) -> int:
        """The quorum of ``size`` clients: at least 1 and at most all."""
        # As the user wrote the share: 0.07 of 100 clients are 7, and not 8.
        wanted = self.quorum if isinstance(self.quorum, int) else math.ceil(Fraction(str(self.quorum)) * size)
        return min(size, max(1, wanted))
