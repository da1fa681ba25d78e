"""The blocks ``wandb_configs`` and ``mlflow_configs``: experiment trackers."""

from __future__ import annotations

from appfl_gc.config.schema.block import Block, not_yet

WANDB = "Weights & Biases tracking is not built yet."
MLFLOW = "MLflow tracking is not built yet."


class WandbConfigs(Block):
    """Weights & Biases."""

    enable_wandb: bool = not_yet("Switches the tracker on.", False, refused=(True,), why=WANDB)
    entity: str | None = not_yet("Team or user.", why=WANDB)
    project: str | None = not_yet("Project.", why=WANDB)
    exp_name: str | None = not_yet("Name of the experiment.", why=WANDB)
    exp_id: str | None = not_yet("Identifier of the experiment.", why=WANDB)


class MlflowConfigs(Block):
    """MLflow."""

    enable_mlflow: bool = not_yet("Switches the tracker on.", False, refused=(True,), why=MLFLOW)
    experiment_name: str | None = not_yet("Name of the experiment.", why=MLFLOW)
    run_name: str | None = not_yet("Name of the run.", why=MLFLOW)
    tracking_uri: str | None = not_yet("Address of the tracking server.", why=MLFLOW)
