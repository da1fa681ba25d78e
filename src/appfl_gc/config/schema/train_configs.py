"""The block ``train_configs``: how a client trains."""

from __future__ import annotations

from typing import Literal

from appfl_gc.config.schema.block import ANY_VALUE, Block, KwargsBlock, Status, ignored, key, not_yet

PRIVACY = "Differential privacy is not built yet."
LORA = "Read by FedSBTrainer, which is not built yet."
DEVICE_FORM = r"^(cpu|mps|auto|xpu(:\d+)?|cuda(:\d+)?(,cuda:\d+)*)$"


class DpConfig(Block):
    """Settings of the ``opacus`` mechanism."""

    noise_multiplier: float = not_yet(
        "Standard deviation of the noise over the clipping norm.", 1.0, why=PRIVACY
    )
    max_grad_norm: float = not_yet("Clipping norm of each sample's gradient.", 1.0, why=PRIVACY)


class ResidualBalancing(Block):
    """When an ADMM trainer changes its penalty: by the factor `tau` where one residual is `mu` times the other."""

    res_on: bool = key("Once after each task.", False)
    res_on_every_update: bool = key("After each local step instead.", False)
    mu: float | None = key(
        "Ratio of the residuals from which on the penalty changes; 10 if left out.", ge=1, allow_inf_nan=False
    )
    tau: float | None = key("Factor by which it changes; 2 if left out.", gt=1, allow_inf_nan=False)


class TrainConfigs(Block):
    """How a client trains. Keys of its own that a class in ``trainer_path`` reads pass through to it."""

    trainer: str = key(
        "Class of the trainer: a published name, or a class in `trainer_path`.", "", required=True
    )
    trainer_path: str | None = key("Python file with your own trainer, or `site:NAME`.")
    mode: Literal["epoch", "step", "fit", "partial_fit"] | None = key(
        "What local work is counted in: `epoch` or `step`. VanillaTrainer requires it."
        " (`fit` and `partial_fit` belong to SklearnTrainer.)"
    )
    num_local_epochs: int | None = key("Passes over the client's data in a round, with `mode: epoch`.", ge=1)
    num_local_steps: int | None = key("Optimiser steps in a round, with `mode: step`.", ge=1)
    optim: str | None = key("Optimiser: a name in `torch.optim`. VanillaTrainer requires it.")
    optim_args: KwargsBlock = key(
        "Keyword arguments of the optimiser, such as `lr`.", {}, validate_default=True
    )
    loss_fn: str | None = key("Loss: a name in `torch.nn`.")
    loss_fn_path: str | None = key(
        "Python file with your own loss class, or `site:NAME`. Wins over `loss_fn`."
    )
    loss_fn_name: str | None = key("Class in `loss_fn_path`; the last class of the file if left out.")
    loss_fn_kwargs: KwargsBlock = key("Keyword arguments of the loss.", {}, validate_default=True)
    metric_path: str | None = key(
        "Python file with your metric `metric(y_true, y_pred) -> float`, or `site:NAME`."
    )
    metric_name: str | None = key("Function in `metric_path`; the last function of the file if left out.")
    do_validation: bool = key("Validate after local training; needs a validation dataset.", False)
    do_pre_validation: bool = key("Validate the received model before training.", False)
    train_batch_size: int = key("Samples in a training batch.", 32, ge=1)
    val_batch_size: int = key("Samples in a validation batch.", 32, ge=1)
    train_data_shuffle: bool = key("Shuffle the training data in each epoch.", True)
    val_data_shuffle: bool = key("Shuffle the validation data.", False)
    num_workers: int = key("Worker processes of the data loader.", 0, ge=0)
    train_drop_last: bool = key("Leave out the last batch of an epoch if it is not full.", False)
    device: str = key(
        "Where to train: `cpu`, `cuda`, `cuda:0`, `cuda:0,cuda:1` (data parallel), `xpu`, `mps`, or `auto`,"
        " which takes what the site has.",
        "cpu",
        pattern=DEVICE_FORM,
    )
    num_threads: int | None = key(
        "CPU threads of tensor operations. They change the bits of a result, so the number travels with each"
        " call; the site chooses if left out.",
        ge=1,
    )
    send_gradient: bool = key(
        "Send `received - trained` of the named parameters instead of their values.", False
    )
    optimize_memory: bool = ignored(
        "Published switch of memory optimisations.", "Memory is always used sparingly.", True, quiet=True
    )
    clip_grad: bool = key("Clip each batch's gradient.", False)
    clip_value: float | None = key("Bound of the gradient's norm, with `clip_grad: True`.", gt=0)
    clip_norm: float | None = key(
        "Type of the norm (1, 2, `.inf`), with `clip_grad: True`; 2 if left out.", gt=0
    )
    checkpoint_steps: int | None = key(
        "Optimiser steps from one checkpoint of a running task to the next, at the site; none are counted if left"
        " out.",
        ge=1,
    )
    checkpoint_seconds: float = key(
        "Seconds from one checkpoint to the next; 0 for none.", 600.0, ge=0, allow_inf_nan=False
    )
    on_walltime: Literal["checkpoint", "partial"] = key(
        "What becomes of a task when the job of its worker is about to end: `checkpoint` lets the next job go on"
        " with it, `partial` sends the update as it is, with the weight of the steps that were done.",
        "checkpoint",
    )
    walltime_seconds: float | None = key(
        "How long the job of a worker lasts, counted from the start of the node's workers, where neither Slurm nor PBS"
        " says it.",
        gt=0,
        allow_inf_nan=False,
    )
    walltime_margin_seconds: float = key(
        "How long before the end of the job a task stops. One step, and a checkpoint or the sending of an update,"
        " must fit in.",
        60.0,
        ge=0,
        allow_inf_nan=False,
    )
    logging_output_dirname: str = key("Directory of the client's log file, at the site.", "./output")
    logging_output_filename: str = key("First part of the log file's name.", "result")
    use_dp: bool = not_yet("Switches differential privacy on.", False, refused=(True,), why=PRIVACY)
    dp_mechanism: Literal["laplace", "gaussian", "opacus"] = not_yet(
        "Mechanism of `use_dp`.", "laplace", why=PRIVACY
    )
    epsilon: float | None = not_yet("Privacy budget of `use_dp`.", why=PRIVACY)
    dp_config: DpConfig | None = not_yet("Settings of the `opacus` mechanism.", why=PRIVACY)
    use_secure_agg: bool = not_yet(
        "Set by the server from `aggregator_kwargs`, not here.",
        False,
        refused=(True,),
        why="Secure aggregation is not built yet.",
    )
    secure_agg_client_weights_mode: Literal["equal", "num_examples"] = not_yet(
        "Weights of masked updates.", "equal", why="Secure aggregation is not built yet."
    )
    checkpoint_dirname: str | None = ignored(
        "Directory of a client's checkpoint.",
        "Published sites never write one; the run directory has the checkpoints.",
    )
    checkpoint_filename: str | None = ignored(
        "Name of a client's checkpoint.",
        "Published sites never write one; the run directory has the checkpoints.",
    )
    enable_wandb: bool = not_yet(
        "Set by the program from `wandb_configs`, not here.",
        False,
        refused=(True,),
        why="Weights & Biases tracking is not built yet.",
    )
    wandb_logging_id: str | None = ignored("Name of the client at the tracker.", "It is the `client_id`.")
    mlflow_configs: KwargsBlock | None = not_yet(
        "Copied by the program from the block `mlflow_configs`.", why="MLflow tracking is not built yet."
    )
    mu: float | None = key(
        "Weight of FedProxTrainer's proximal term; 0.01 if left out.", ge=0, allow_inf_nan=False
    )
    init_penalty: float | None = key(
        "First penalty of the ADMM trainers; 500 if left out.", gt=0, allow_inf_nan=False
    )
    init_proximity: float | None = key(
        "Proximity of the ADMM trainers; 0 if left out.", ge=0, allow_inf_nan=False
    )
    residual_balancing: ResidualBalancing | None = key(
        "How the penalty of the ADMM trainers follows from the residuals."
    )
    pre_validation_interval: int | None = key(
        "Rounds from one validation before training to the next, with `do_pre_validation: True`; 1 if left out.",
        ge=1,
    )
    bundle_root: str | None = not_yet("Directory of a MONAI bundle.", why="MonaiTrainer is not built yet.")
    partial_fit_classes: list[int | str] | None = not_yet(
        "Classes for `partial_fit`.", why="SklearnTrainer is not built yet."
    )
    lora_r: int | None = not_yet("Rank of the adapters.", why=LORA)
    agg_type: str | None = not_yet("Form of FedSB's aggregation.", why=LORA)
    lr: float | None = not_yet("Learning rate of FedSB.", why=LORA)
    epochs: int | None = not_yet("Epochs of FedSB.", why=LORA)
    eg_bs: int | None = not_yet("Batch size of FedSB's gradient estimate.", why=LORA)
    warmup_ratio: float | None = not_yet("Share of warm-up steps.", why=LORA)
    num_samples: int | None = not_yet("Samples of FedSB's gradient estimate.", why=LORA)
    num_splits: int | None = not_yet("Shares into which FedSB splits its data.", why=LORA)
    client_idx: int | None = not_yet("The client's share.", why=LORA)
    reconstruction_configs: KwargsBlock | None = not_yet("Settings of FedSB's reconstruction.", why=LORA)
    deepspeed: KwargsBlock | bool | None = not_yet(
        "DeepSpeed settings.", refused=(ANY_VALUE,), why="Training over several nodes is not built yet."
    )
    logging_id: str | None = key(
        "Old name of `client_id`.", status=Status.IGNORED, why="Use `client_id`.", quiet=True
    )
