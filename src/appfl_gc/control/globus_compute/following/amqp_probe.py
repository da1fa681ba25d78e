"""Whether the host that pushes results can be reached from here."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from urllib.parse import urlsplit

SECONDS = 5.0


@dataclass(frozen=True)
class AmqpProbe:
    """What a TCP connection to the result queue's host gave.

    Attributes:
        host, port: where to; "" and 0 where the service did not tell.
        refusal: why not, or "" if it was accepted.
    """

    host: str
    port: int
    refusal: str

    @property
    def reachable(self) -> bool:
        """Whether results can be pushed."""
        return not self.refusal

    def describe(self) -> str:
        """A sentence for people."""
        if self.reachable:
            return f"Results are pushed from {self.host}:{self.port} (AMQP)."
        where = f"{self.host}:{self.port}" if self.host else "The result queue"
        return (
            f"{where} (AMQP) can't be reached ({self.refusal}); results are polled over HTTPS. "
            f"Where port 443 is open, control_configs.amqp_port: 443 brings them faster."
        )


def probe(url: str, port: int | None = None, seconds: float = SECONDS) -> AmqpProbe:
    """Connect to the host of an AMQP ``url``, at ``port`` if given, and close again. Never raises."""
    host, number = "", 0
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        number = port or parts.port or (5671 if parts.scheme == "amqps" else 5672)
        socket.create_connection((host, number), timeout=seconds).close()
    except OSError as error:
        return AmqpProbe(host, number, error.strerror or str(error) or "no answer")
    except (ValueError, OverflowError):  # their words may hold the address, with its password
        return AmqpProbe(host, number, "its address is not valid")
    return AmqpProbe(host, number, "")
