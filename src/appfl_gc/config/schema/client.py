"""A client: what both files say together about one participant."""

from __future__ import annotations

from appfl_gc.config.schema.block import ANY_VALUE, Block, KwargsBlock, Status, ignored, key, not_yet
from appfl_gc.config.schema.comm_configs import CommConfigs
from appfl_gc.config.schema.data_configs import DataConfigs
from appfl_gc.config.schema.data_readiness_configs import DataReadinessConfigs
from appfl_gc.config.schema.model_configs import ModelConfigs
from appfl_gc.config.schema.tracking_configs import MlflowConfigs, WandbConfigs
from appfl_gc.config.schema.train_configs import TrainConfigs

MULTI_NODE = "Training over several nodes is not built yet."


class Shared(Block):
    """``client_configs`` of the server's file: what all clients share. A client's entry wins over it."""

    train_configs: TrainConfigs = key("How to train.", TrainConfigs(), required=True)
    model_configs: ModelConfigs = key("What to train.", ModelConfigs())
    data_configs: DataConfigs = key("The data; usually given per client.", DataConfigs(), required=True)
    comm_configs: CommConfigs = key("How models travel; the server reads it too.", CommConfigs())
    data_readiness_configs: DataReadinessConfigs | None = not_yet(
        "Reports on the data before training.", why="Data readiness reports are not built yet."
    )
    wandb_configs: WandbConfigs | None = not_yet("Weights & Biases.", why="Trackers are not built yet.")
    mlflow_configs: MlflowConfigs | None = not_yet("MLflow.", why="Trackers are not built yet.")
    optimize_memory: bool = ignored(
        "Published switch of memory optimisations.", "Memory is always used sparingly.", True, quiet=True
    )


class Client(Shared):
    """One entry of ``clients`` merged over ``client_configs``."""

    endpoint_id: str = key(
        "UUID of a Globus Compute endpoint, or `local` for an engine on this machine. Clients may share one.",
        "",
        required=True,
    )
    client_id: str | None = key(
        "Name of the participant, unique in the federation; `endpoint_id` if left out.",
    )
    user_endpoint_config: KwargsBlock | None = key(
        "What the endpoint's template takes, such as account, queue and walltime of a facility's endpoint."
    )
    resource_specification: KwargsBlock | None = key(
        "Resources of each task, for an endpoint with an MPI engine."
    )
    credentials: str | None = key(
        "Which Globus application submits to this endpoint: the prefix P of the environment variables P_CLIENT_ID "
        "and P_CLIENT_SECRET, or the path of a file of mode 0600 with client_id and client_secret. The login of "
        "`appfl-gc login` if left out."
    )
    experiment_id: str | None = ignored("Identifier of the run.", "The program chooses it.")
    transfer_endpoint_id: str | None = key(
        "Globus Transfer collection of the site.",
        status=Status.NEVER,
        why="Models travel through payload stores.",
    )
    server_endpoint_id: str | None = key(
        "Endpoint of the server.", status=Status.NEVER, why="The server is where `appfl-gc run` runs."
    )
    save_dir: str | None = key(
        "Directory of a model at the site.", status=Status.NEVER, why="Models travel through payload stores."
    )
    scheduler: str | None = key(
        "Batch system of the site.", status=Status.NEVER, why="The endpoint's own configuration knows it."
    )
    ds_configs: KwargsBlock | None = not_yet("DeepSpeed settings.", refused=(ANY_VALUE,), why=MULTI_NODE)
