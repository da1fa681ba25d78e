"""Who a call belongs to."""

from __future__ import annotations

from dataclasses import dataclass, replace

from appfl_gc.protocol.wire import Json, as_int, as_key, as_object


@dataclass(frozen=True, order=True)
class CallId:
    """Identity of a call: the run, the round (or dispatch number), the client and the attempt, from 1."""

    run: str
    round: int
    client: str
    attempt: int = 1

    def next_attempt(self) -> CallId:
        """The same call, tried once more."""
        return replace(self, attempt=self.attempt + 1)

    def to_json(self) -> dict[str, Json]:
        """The JSON form."""
        return {"run": self.run, "round": self.round, "client": self.client, "attempt": self.attempt}

    @classmethod
    def from_json(cls, value: Json) -> CallId:
        """Parse the JSON form; raises ``WireError``."""
        fields = as_object(value, "The identity")
        return cls(
            as_key(fields.get("run"), "The run"),
            as_int(fields.get("round"), "The round"),
            as_key(fields.get("client"), "The client"),
            as_int(fields.get("attempt"), "The attempt"),
        )

    def __str__(self) -> str:
        return f"client {self.client}, round {self.round}, attempt {self.attempt}"
