"""What the clients of a federation must have in common, and what not."""

from __future__ import annotations

from collections.abc import Sequence

from appfl_gc.config.document import Mark
from appfl_gc.config.federation import ClientConfig
from appfl_gc.config.findings import Findings
from appfl_gc.config.merging import Layered
from appfl_gc.config.typing_check import TypedCheck


def check_ids(entries: Sequence[Layered], ids: Sequence[str], findings: Findings) -> None:
    """Each client has an id of its own."""
    first: dict[str, Mark] = {}
    for entry, name in zip(entries, ids, strict=True):
        mark, key = entry.place(("client_id",))
        if name and name in first:
            findings.error(
                f"The client id {name!r} is taken; the first is at {first[name]}.",
                mark,
                key,
                "Give each client a `client_id` of its own.",
            )
        first.setdefault(name, mark)


def check_one_model(entries: Sequence[Layered], clients: Sequence[ClientConfig], findings: Findings) -> None:
    """Clients train one model, so they agree on it and on what they send."""
    first = clients[0]
    for entry, client in zip(entries, clients, strict=True):
        checker = TypedCheck(entry, findings)
        if client.train_configs.send_gradient is not first.train_configs.send_gradient:
            checker.error(
                ("train_configs", "send_gradient"),
                f"Client {client.client_id} and client {first.client_id} differ in `send_gradient`.",
                "Set it in `client_configs.train_configs`, for all clients.",
            )
        if client.model_configs.seed != first.model_configs.seed:
            checker.warning(
                ("model_configs", "seed"),
                f"The seed of client {first.client_id} counts; another one for {client.client_id} has no effect.",
                "Set it in `client_configs.model_configs`.",
            )
        model = (client.sources.get("model"), client.model_configs.model_kwargs)
        if model != (first.sources.get("model"), first.model_configs.model_kwargs):
            checker.warning(
                ("model_configs",),
                f"The model of client {client.client_id} is not that of client {first.client_id}, which the server"
                " builds; an update whose tensors differ will be refused.",
            )
