"""Names of keys: old places and spellings are moved to the present ones, unknown names are reported.

Works on each file by itself, before the files are merged, so that every finding has one place.
"""

from __future__ import annotations

from typing import Any

from appfl_gc.config.document import Document, KeyPath, show_key
from appfl_gc.config.findings import Findings, nearest
from appfl_gc.config.schema.aggregator_kwargs import AGGREGATOR_KWARGS
from appfl_gc.config.schema.block import Block, block_of
from appfl_gc.config.schema.client import Client, Shared
from appfl_gc.config.schema.scheduler_kwargs import SCHEDULER_KWARGS
from appfl_gc.config.schema.server_configs import ServerConfigs
from appfl_gc.config.schema.train_configs import TrainConfigs

SERVER_FILE = ("client_configs", "server_configs")
CLIENT_FILE = ("clients",)
S3_KEYS = ("s3_bucket", "s3_creds_file", "s3_temp_dir")


def correct_roots(server: Document, clients: Document, findings: Findings) -> None:
    """Check the outermost names of both files; a misspelt one is reported and read as what is meant."""
    _check_roots(server, SERVER_FILE, CLIENT_FILE, findings)
    _check_roots(clients, CLIENT_FILE, SERVER_FILE, findings)


def check_server_file(document: Document, clients: Document, findings: Findings) -> None:
    """Correct and check the names in the server's file."""
    for block in SERVER_FILE:
        _move_s3(document, (block,), findings)
    _move_num_clients(document, findings)
    own_trainer = _has_trainer_path(document.get(("client_configs",))) or any(
        _has_trainer_path(entry) for entry in _entries(clients)
    )
    _check_names(document, ("client_configs",), Shared, findings, own_trainer=own_trainer)
    server: KeyPath = ("server_configs",)
    _check_names(document, server, ServerConfigs, findings)
    for what, schemas in (("scheduler", SCHEDULER_KWARGS), ("aggregator", AGGREGATOR_KWARGS)):
        name = document.get((*server, what))
        if isinstance(name, str) and name in schemas and not document.get((*server, f"{what}_path")):
            _check_names(document, (*server, f"{what}_kwargs"), schemas[name], findings)


def check_client_file(document: Document, server: Document, findings: Findings) -> None:
    """Correct and check the names in the clients' file."""
    shared_trainer = _has_trainer_path(server.get(("client_configs",)))
    for index, entry in enumerate(_entries(document)):
        _move_s3(document, ("clients", index), findings)
        own_trainer = shared_trainer or _has_trainer_path(entry)
        _check_names(document, ("clients", index), Client, findings, own_trainer=own_trainer)


def _entries(document: Document) -> list[Any]:
    entries = document.get(("clients",))
    return entries if isinstance(entries, list) else []


def _has_trainer_path(block: Any) -> bool:
    train = block.get("train_configs") if isinstance(block, dict) else None
    return isinstance(train, dict) and bool(train.get("trainer_path"))


def _check_roots(
    document: Document, own: tuple[str, ...], other: tuple[str, ...], findings: Findings
) -> None:
    for name in list(document.tree):
        mark = document.mark((name,))
        if name in other and not any(key in document.tree for key in own):
            continue  # the files are swapped, which is reported as a whole
        if name in other:
            findings.error(
                f"The block `{name}` belongs in the other file.", mark, name,
                "Is --server_config mistaken for --client_config?",
            )  # fmt: skip
        elif name not in own:
            near = nearest(name, own)
            if near and near not in document.tree:
                findings.error(f"The block `{name}` is unknown.", mark, name, f"Did you mean `{near}`?")
                document.move((name,), (near,))
                continue
            findings.warning(
                f"The key `{name}` is unknown and has no effect.", mark, name,
                f"Did you mean `{near}`?" if near else f"This file has the keys {', '.join(own)}.",
            )  # fmt: skip


def _check_names(
    document: Document, path: KeyPath, schema: type[Block], findings: Findings, *, own_trainer: bool = False
) -> None:
    block = document.get(path)
    if not isinstance(block, dict):
        return
    for name in list(block):
        place: KeyPath = (*path, name)
        mark = document.mark(place)
        field = schema.model_fields.get(name)
        if field is not None:
            inner = block_of(field)
            if inner is not None:
                _check_names(document, place, inner, findings, own_trainer=own_trainer)
        elif name in schema.aliases:
            present = schema.aliases[name]
            if present in block:
                findings.error(
                    f"`{name}` is an old name of `{present}`, and both are given.",
                    mark,
                    show_key(place),
                    "Keep one.",
                )
                continue
            findings.warning(
                f"`{name}` is an old or mistaken name of `{present}` and is read as that.",
                mark,
                show_key(place),
                f"Write `{present}`.",
            )
            document.move(place, (*path, present))
            inner = block_of(schema.model_fields[present])
            if inner is not None:
                _check_names(document, (*path, present), inner, findings)
        elif isinstance(block[name], dict) and (meant := _meant_block(name, schema, block)):
            # The keys of a misspelt block would all be missing elsewhere: one error instead of many.
            findings.error(
                f"The block `{name}` is unknown.", mark, show_key(place), f"Did you mean `{meant}`?"
            )
            document.move(place, (*path, meant))
            inner = block_of(schema.model_fields[meant])
            if inner is not None:
                _check_names(document, (*path, meant), inner, findings, own_trainer=own_trainer)
        elif not (own_trainer and schema is TrainConfigs):
            findings.warning(
                f"The key `{name}` is unknown and has no effect.", mark, show_key(place), _hint(name, schema)
            )


def _meant_block(name: str, schema: type[Block], block: dict[str, Any]) -> str:
    """The block that ``name`` misspells and that is not given as well, or ""."""
    near = nearest(name, (key for key, field in schema.model_fields.items() if block_of(field)))
    return "" if near in block else near


def _hint(name: str, schema: type[Block]) -> str:
    near = nearest(name, (*schema.model_fields, *schema.aliases))
    if near and near.lower() == name.lower():
        return f"Did you mean `{near}`?"
    for root, top in (("client_configs", Shared), ("server_configs", ServerConfigs), ("clients[]", Client)):
        home = _home(name, top, root)
        if home:
            return f"It belongs in `{home}`."
    for table in (SCHEDULER_KWARGS, AGGREGATOR_KWARGS):
        owners = [
            owner
            for owner, kwargs in table.items()
            if schema in table.values() and name in kwargs.model_fields
        ]
        if owners:
            return f"It belongs to {', '.join(owners)}."
    if near:
        return f"Did you mean `{schema.aliases.get(near, near)}`?"
    return ""


def _home(name: str, schema: type[Block], path: str) -> str:
    if name in schema.model_fields:
        return path
    for key, field in schema.model_fields.items():
        inner = block_of(field)
        found = _home(name, inner, f"{path}.{key}") if inner else ""
        if found:
            return found
    return ""


def _move_num_clients(document: Document, findings: Findings) -> None:
    """``num_clients`` used to stand in ``scheduler_kwargs`` or ``aggregator_kwargs``."""
    for block in ("scheduler_kwargs", "aggregator_kwargs"):
        old: KeyPath = ("server_configs", block, "num_clients")
        value = document.get(old)
        if value is None:
            continue
        new: KeyPath = ("server_configs", "num_clients")
        mark = document.mark(old)
        present = document.get(new)
        if present is not None and present != value:
            findings.error(
                f"This says {value}, and `server_configs.num_clients` says {present}.", mark, show_key(old),
                "Keep `server_configs.num_clients` only.",
            )  # fmt: skip
        else:
            findings.warning(
                "`num_clients` has moved and is read as `server_configs.num_clients`.", mark, show_key(old),
                "Write it in `server_configs`.",
            )  # fmt: skip
        if present is None:
            document.move(old, new)
        else:
            document.get(old[:-1]).pop("num_clients")


def _move_s3(document: Document, top: KeyPath, findings: Findings) -> None:
    """The S3 settings used to stand in ``globus_compute_configs``, where a bucket switched them on."""
    block: KeyPath = (*top, "comm_configs")
    old = document.get((*block, "globus_compute_configs"))
    if not isinstance(old, dict):
        return
    switched = old.get("s3_bucket") is not None
    for name in S3_KEYS:
        if name not in old:
            continue
        place: KeyPath = (*block, "globus_compute_configs", name)
        new: KeyPath = (*block, "s3_configs", name)
        findings.warning(
            f"`globus_compute_configs.{name}` has moved and is read as `s3_configs.{name}`.",
            document.mark(place),
            show_key(place),
            f"Write it in `s3_configs`{', with `enable_s3: True`' if name == 's3_bucket' else ''}.",
        )
        present = document.get((*block, "s3_configs"))
        if present is not None and not isinstance(present, dict):
            return
        if isinstance(present, dict) and name in present:
            old.pop(name)
        else:
            document.move(place, new)
    switch: KeyPath = (*block, "s3_configs", "enable_s3")
    if switched and document.get(switch) is None:
        document.get(switch[:-1])["enable_s3"] = True
        document.marks[switch] = document.mark((*block, "s3_configs", "s3_bucket"))
