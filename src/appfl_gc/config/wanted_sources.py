"""Which user files each block of the configuration names, and how they will be called."""

from __future__ import annotations

from appfl_gc.config.document import Document, KeyPath
from appfl_gc.config.schema.client import Client
from appfl_gc.config.schema.server_configs import ServerConfigs
from appfl_gc.config.sources import SourceReader, Wanted, yaml_file_of
from appfl_gc.config.typing_check import TypedCheck
from appfl_gc.protocol.source import Source


def client_sources(
    client: Client, check: TypedCheck, reader: SourceReader, documents: tuple[Document, ...]
) -> dict[str, Source]:
    """The sources of one client by kind; what is wrong with them is reported."""
    train, model, data = client.train_configs, client.model_configs, client.data_configs
    at, in_model, in_data = "train_configs", "model_configs", "data_configs"
    wanted: list[Wanted] = []
    if model.model_path:
        wanted.append(
            Wanted(
                "model", (in_model, "model_path"), (in_model, "model_name"), (in_model, "model_kwargs"),
                model.model_path, model.model_name or "", dict(model.model_kwargs), is_class=False,
            )
        )  # fmt: skip
    if train.loss_fn_path:
        wanted.append(
            Wanted(
                "loss", (at, "loss_fn_path"), (at, "loss_fn_name"), (at, "loss_fn_kwargs"),
                train.loss_fn_path, train.loss_fn_name or "", dict(train.loss_fn_kwargs), is_class=True,
            )
        )  # fmt: skip
    if train.metric_path:
        wanted.append(
            Wanted(
                "metric", (at, "metric_path"), (at, "metric_name"), (),
                train.metric_path, train.metric_name or "", {}, is_class=False, positional=2,
            )
        )  # fmt: skip
    if train.trainer_path:
        wanted.append(
            Wanted(
                "trainer", (at, "trainer_path"), (at, "trainer"), (),
                train.trainer_path, train.trainer, None, is_class=True,
            )
        )  # fmt: skip
    if data.dataset_path:
        wanted.append(
            Wanted(
                "dataset", (in_data, "dataset_path"), (in_data, "dataset_name"), (in_data, "dataset_kwargs"),
                data.dataset_path, data.dataset_name or "", dict(data.dataset_kwargs), is_class=False,
            )
        )  # fmt: skip
    sources = {}
    for want in wanted:
        source = reader.read(want, check, yaml_file_of(check, want.path_key, documents))
        if source is not None:
            sources[want.kind] = source
    return sources


def server_sources(
    server: ServerConfigs, check: TypedCheck, reader: SourceReader, document: Document
) -> dict[str, Source]:
    """The sources of the server; what is wrong with them is reported."""
    wanted: list[tuple[str, Wanted]] = []
    for kind, path, name in (
        ("aggregator", server.aggregator_path, server.aggregator),
        ("scheduler", server.scheduler_path, server.scheduler),
    ):
        if path:
            key: KeyPath = (f"{kind}_path",)
            wanted.append((kind, Wanted(kind, key, (kind,), (), path, name, None, is_class=True)))
    data = server.val_data_configs
    if data is not None and data.dataset_path:
        block = "val_data_configs"
        want = Wanted(
            "dataset", (block, "dataset_path"), (block, "dataset_name"), (block, "dataset_kwargs"),
            data.dataset_path, data.dataset_name or "", dict(data.dataset_kwargs), is_class=False,
        )  # fmt: skip
        wanted.append(("validation_dataset", want))
    sources = {}
    for name, want in wanted:
        if want.path.startswith("site:"):
            check.error(
                want.path_key, "`site:` names what a site has; the server reads a file.", "Give a path."
            )
            continue
        source = reader.read(want, check, yaml_file_of(check, want.path_key, (document,)))
        if source is not None:
            sources[name] = source
    return sources
