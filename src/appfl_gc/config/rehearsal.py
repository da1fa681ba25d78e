"""``--local``: a configuration for remote sites turned into one for this machine."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from appfl_gc.config.document import Mark
from appfl_gc.config.federation import LOCAL
from appfl_gc.config.findings import Findings, nearest
from appfl_gc.config.merging import Layered
from appfl_gc.config.user_file import Definition

LOCAL_OPTION = Mark("--local")
LOCAL_DATA_OPTION = Mark("--local-data")
STORES = (
    ("s3_configs", "enable_s3"),
    ("proxystore_configs", "enable_proxystore"),
    ("encryption_configs", "enable_encryption"),
)


def make_local(blocks: list[Layered], findings: Findings) -> None:
    """Turn every endpoint into ``local`` and switch the stores off. The first block is the server's."""
    for index, block in enumerate(blocks):
        if index:
            block.set(("endpoint_id",), LOCAL, LOCAL_OPTION)
        for store, switch in STORES:
            path = ("comm_configs", store, switch)
            if block.get(path):
                mark, key = block.place(path)
                findings.note("Switched off by --local; models travel by the store `file`.", mark, key)
                block.set(path, False, LOCAL_OPTION)


def substitute_data(
    substitutes: Mapping[str, str],
    clients: Mapping[str, Layered],
    definition: Callable[[str, str], Definition | None],
    findings: Findings,
) -> None:
    """Replace the dataset function of clients, for a rehearsal without the sites' data.

    Args:
        substitutes: ``path.py:function`` by the name of a client or of a dataset function.
        clients: merged entries by ``client_id``.
        definition: looks a function of a file up.
        findings: where to report names that fit no client, and arguments that the substitute does not take.
    """
    names = {str(block.get(("data_configs", "dataset_name"))) for block in clients.values()}
    for name, target in substitutes.items():
        path, colon, function = target.rpartition(":")
        if not colon or not path or not function:
            findings.error(
                f"{name}={target} is not of the form NAME=path.py:function.", LOCAL_DATA_OPTION,
                hint="Such as Client1=small_data.py:get_sample.",
            )  # fmt: skip
            continue
        chosen = [
            block
            for client_id, block in clients.items()
            if name in (client_id, block.get(("data_configs", "dataset_name")))
        ]
        if not chosen:
            near = nearest(name, [*clients, *names])
            findings.error(
                f"No client and no dataset function is called `{name}`.", LOCAL_DATA_OPTION,
                hint=f"Did you mean `{near}`?" if near else f"Clients: {', '.join(list(clients)[:10])}.",
            )  # fmt: skip
        found = definition(path, function)
        for block in chosen:
            block.set(("data_configs", "dataset_path"), path, LOCAL_DATA_OPTION)
            block.set(("data_configs", "dataset_name"), function, LOCAL_DATA_OPTION)
            given = block.get(("data_configs", "dataset_kwargs"))
            if (
                found is None
                or found.signature is None
                or found.signature.open
                or not isinstance(given, dict)
            ):
                continue
            kept = {key: value for key, value in given.items() if key in found.signature.names}
            if len(kept) < len(given):
                dropped = ", ".join(key for key in given if key not in kept)
                findings.note(
                    f"`{function}` replaces the dataset function and is not given {dropped}.",
                    *block.place(("data_configs", "dataset_kwargs")),
                )
                block.set(("data_configs", "dataset_kwargs"), kept, LOCAL_DATA_OPTION)
