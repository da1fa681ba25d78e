"""What the clients of a federation must have in common, and what not."""

from __future__ import annotations

from collections.abc import Sequence

from appfl_gc.config.connectors import ARGUMENTS
from appfl_gc.config.document import Mark
from appfl_gc.config.federation import ClientConfig
from appfl_gc.config.findings import Findings
from appfl_gc.config.merging import Layered
from appfl_gc.config.schema.comm_configs import CommConfigs
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


def check_connectors(
    server: Layered,
    comm: CommConfigs,
    entries: Sequence[Layered],
    clients: Sequence[ClientConfig],
    findings: Findings,
) -> None:
    """Server and client reach ProxyStore by the same connector; the server takes a client's if it has none.

    Args:
        server: the server's block.
        comm: of the server.
        entries: the clients' blocks.
        clients: the clients.
        findings: hears what is wrong. A connector that does not serve was reported before.
    """
    own, path = comm.proxystore_configs, ("comm_configs", "proxystore_configs", "connector_type")
    if not own.enable_proxystore or own.connector_type not in ARGUMENTS:
        return
    for entry, client in zip(entries, clients, strict=True):
        theirs = client.comm_configs.proxystore_configs
        if (
            theirs.enable_proxystore
            and theirs.connector_type in ARGUMENTS
            and theirs.connector_type != own.connector_type
        ):
            TypedCheck(entry, findings).error(
                path,
                f"Client {client.client_id} has {theirs.connector_type}, the server {own.connector_type} "
                f"({server.place(path)[0]}).",
                "Give both the same `connector_type`, each with `connector_configs` of its own; or take "
                "`proxystore_configs` out of `server_configs`: then the server uses each client's.",
            )
