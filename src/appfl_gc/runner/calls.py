"""Building calls from the configuration."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field

from appfl_gc.config import ClientConfig
from appfl_gc.protocol.call import Call
from appfl_gc.protocol.identity import CallId
from appfl_gc.protocol.reference import Ref
from appfl_gc.protocol.update_spec import UpdateSpec
from appfl_gc.protocol.wire import Json

HELLO_ROUND = 0


@dataclass
class CallFactory:
    """Makes the calls of one run.

    Attributes:
        run: the run's id.
        seed: the configured seed.
        threads: CPU threads of a client's tensor operations, by client; 0 until its site has said its choice.
        spec: of the global model.
        device_fallback: whether a site without the configured device trains on its CPU (a rehearsal).
    """

    run: str
    seed: int
    threads: dict[str, int]
    spec: UpdateSpec
    device_fallback: bool
    _constant: dict[str, dict[str, Json]] = field(default_factory=dict, init=False, repr=False)

    def hello(self, client: ClientConfig) -> Call:
        """The first call of a client."""
        return self._call(client, HELLO_ROUND, "site.hello", {}, {})

    def train(
        self,
        client: ClientConfig,
        dispatch: int,
        model: Ref,
        grant: dict[str, Json],
        args: Mapping[str, Json],
        acknowledged: int,
    ) -> Call:
        """Local training from ``model``; ``acknowledged`` is the last round whose reply the server has."""
        more: dict[str, Json] = {"grant": grant, "acknowledged": acknowledged, "task": dict(args)}
        return self._call(client, dispatch, "trainer.train", more, {"model": model})

    def _constant_args(self, client: ClientConfig) -> dict[str, Json]:
        """What every call of ``client`` carries."""
        if client.client_id not in self._constant:
            self._constant[client.client_id] = {
                "config": client.site_config(),
                "sources": {kind: source.to_json() for kind, source in client.sources.items()},
                "spec": self.spec.to_json(),
                "device_fallback": self.device_fallback,
            }
        return self._constant[client.client_id]

    def _call(
        self,
        client: ClientConfig,
        round_: int,
        channel: str,
        args: dict[str, Json],
        payloads: Mapping[str, Ref],
    ) -> Call:
        return Call(
            identity=CallId(self.run, round_, client.client_id),
            channel=channel,
            args={**self._constant_args(client), **args},
            payloads=payloads,
            nonce=secrets.token_hex(16),
            seed=self.seed,
            threads=self.threads[client.client_id],
        )
