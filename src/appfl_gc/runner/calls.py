"""Building calls from the configuration."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from appfl_gc.config import ClientConfig
from appfl_gc.protocol.call import Call
from appfl_gc.protocol.errors import ErrorClass
from appfl_gc.protocol.identity import CallId
from appfl_gc.protocol.update_spec import UpdateSpec
from appfl_gc.protocol.wire import Json

HELLO_ROUND = 0
TRAIN = "trainer.train"
SEND = "payload.send"


@dataclass
class CallFactory:
    """Makes the calls of one run.

    Attributes:
        run: the run's id.
        seed: the configured seed.
        threads: CPU threads of a client's tensor operations, by client; 0 until its site has said its choice.
        spec: of the global model.
        compression: how each client's payloads are compressed, by client (see ``Routes.compression``).
        device_fallback: whether a site without the configured device trains on its CPU (a rehearsal).
    """

    run: str
    seed: int
    threads: dict[str, int]
    spec: UpdateSpec
    compression: Mapping[str, Mapping[str, Json]]
    device_fallback: bool
    _constant: dict[str, dict[str, Json]] = field(default_factory=dict, init=False, repr=False)

    def hello(self, client: ClientConfig) -> Call:
        """The first call of a client."""
        return self._call(client, HELLO_ROUND, "site.hello", {})

    def train(
        self,
        client: ClientConfig,
        dispatch: int,
        version: int,
        args: Mapping[str, Json],
        acknowledged: int,
        state_of: int,
    ) -> Call:
        """Local training; the call is yet to get its model and its grant.

        Args:
            client: who trains.
            dispatch: number of the dispatch.
            version: of the global model.
            args: of the task.
            acknowledged: the last dispatch whose update is in the global model.
            state_of: the last dispatch whose update the server has; the client goes on from its state after that.
        """
        more: dict[str, Json] = {
            "acknowledged": acknowledged,
            "state_of": state_of,
            "task": dict(args),
            "version": version,
        }
        return self._call(client, dispatch, TRAIN, more)

    def again(self, call: Call, error_class: ErrorClass, held: bool) -> Call:
        """``call`` as a new attempt.

        Args:
            call: which failed.
            error_class: how.
            held: the site's outbox has the update, which only has to be sent from there.
        """
        dropped = {"of", "compute_again", "grant", "mailbox"}
        args = {name: value for name, value in call.args.items() if name not in dropped}
        channel = str(call.args.get("of", call.channel))
        if held:
            channel, args["of"] = SEND, channel
        elif error_class is ErrorClass.TRANSFER:
            args["compute_again"] = True
        elif call.channel == SEND:
            channel, args["of"] = SEND, channel
        return replace(
            call,
            identity=call.identity.next_attempt(),
            nonce=secrets.token_hex(16),
            channel=channel,
            args=args,
        )

    def renewed(self, call: Call) -> Call:
        """``call``, which never left, as a new attempt that asks for the same."""
        args = {name: value for name, value in call.args.items() if name not in {"grant", "mailbox"}}
        return replace(
            call, identity=call.identity.next_attempt(), nonce=secrets.token_hex(16), args=args, payloads={}
        )

    def restored(
        self, client: ClientConfig, dispatch: int, version: int, attempt: int, fields: Mapping[str, Any]
    ) -> Call:
        """A call that an earlier server sent, without model and grant.

        Args:
            client: whose.
            dispatch, version: as for ``train``.
            attempt: number of the attempt.
            fields: the record of that attempt in the journal.

        Raises:
            LookupError, TypeError, ValueError: if the record is not one of a dispatch.
        """
        call = self.train(
            client,
            dispatch,
            version,
            dict(fields["args"]),
            int(fields["acknowledged"]),
            int(fields["state_of"]),
        )
        return replace(
            call,
            identity=replace(call.identity, attempt=attempt),
            nonce=str(fields["nonce"]),
            threads=int(fields["threads"]),
        )

    def _constant_args(self, client: ClientConfig) -> dict[str, Json]:
        """What every call of ``client`` carries."""
        if client.client_id not in self._constant:
            compression = self.compression.get(client.client_id)
            self._constant[client.client_id] = {
                **({"compression": dict(compression)} if compression else {}),
                "config": client.site_config(),
                "sources": {kind: source.to_json() for kind, source in client.sources.items()},
                "spec": self.spec.to_json(),
                "device_fallback": self.device_fallback,
            }
        return self._constant[client.client_id]

    def _call(self, client: ClientConfig, round_: int, channel: str, args: dict[str, Json]) -> Call:
        return Call(
            identity=CallId(self.run, round_, client.client_id),
            channel=channel,
            args={**self._constant_args(client), **args},
            nonce=secrets.token_hex(16),
            seed=self.seed,
            threads=self.threads[client.client_id],
        )
