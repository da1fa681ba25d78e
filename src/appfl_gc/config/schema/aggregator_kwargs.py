"""The block ``aggregator_kwargs`` of each published aggregator."""

from __future__ import annotations

from typing import Literal

from appfl_gc.config.schema.block import Block, KwargsBlock, ignored, key, not_yet

SECURE = "Secure aggregation is not built yet."
LATER = "The aggregator is not built yet."
DERIVED = "Derived from `train_configs.send_gradient`."
NOT_READ = "The aggregator does not read it."


class FedAvgKwargs(Block):
    """``FedAvgAggregator``, the start of its family."""

    client_weights_mode: Literal["equal", "sample_size"] = key(
        "Weigh clients equally or by their number of training samples.", "equal"
    )
    use_secure_agg: bool = not_yet("Switches secure aggregation on.", False, refused=(True,), why=SECURE)
    secure_agg_client_weights_mode: Literal["equal", "num_examples"] = not_yet(
        "Weights of masked updates.", "equal", why=SECURE
    )
    device: str | None = ignored(
        "Where to aggregate.", "Updates are reduced on the CPU, block by block.", quiet=True
    )
    gradient_based: bool | None = ignored("Whether clients send differences.", DERIVED, quiet=True)
    optimize_memory: bool = ignored(
        "Published switch of memory optimisations.", "Memory is always used sparingly.", True, quiet=True
    )


class FedAvgMKwargs(FedAvgKwargs):
    """``FedAvgMAggregator``."""

    server_momentum_param_1: float | None = not_yet("Momentum of the server.", why=LATER)


class AdaptiveKwargs(FedAvgMKwargs):
    """``FedAdagradAggregator``, ``FedAdamAggregator`` and ``FedYogiAggregator``."""

    server_learning_rate: float | None = not_yet("Learning rate of the server.", why=LATER)
    server_adapt_param: float | None = not_yet("Adaptivity of the server.", why=LATER)
    server_momentum_param_2: float | None = not_yet(
        "Second momentum of the server (Adam and Yogi).", why=LATER
    )


class FedAsyncKwargs(FedAvgKwargs):
    """``FedAsyncAggregator``."""

    alpha: float = not_yet("Weight of an update that is not stale.", 0.9, why=LATER)
    staleness_fn: Literal["constant", "polynomial", "hinge", "harmonic", "exponential"] | None = not_yet(
        "How weight falls with staleness: `constant`, `polynomial` or `hinge`.", why=LATER
    )
    staleness_fn_kwargs: KwargsBlock = not_yet("Its keyword arguments.", {}, why=LATER, validate_default=True)


class FedBuffKwargs(FedAsyncKwargs):
    """``FedBuffAggregator``."""

    K: int | None = not_yet("Updates in a buffer.", why=LATER)


class FedCompassKwargs(FedAsyncKwargs):
    """``FedCompassAggregator`` and ``FedQueueAggregator``."""

    weights: str | None = ignored("Stands in published sample files.", NOT_READ)


class AdmmKwargs(Block):
    """``IIADMMAggregator`` and ``ICEADMMAggregator``."""

    device: str | None = not_yet("Where to aggregate.", why=LATER)


class DimatKwargs(Block):
    """``DIMATaggregator``."""

    graph_func: str | None = not_yet("Function that makes the model's graph.", why=LATER)
    match_func: str | None = not_yet("Function that matches activations.", why=LATER)
    proxy_dataset_path: str | None = not_yet("Python file with the proxy dataset.", why=LATER)
    proxy_dataset_name: str | None = not_yet("Function in that file.", why=LATER)
    proxy_dataset_kwargs: KwargsBlock = not_yet(
        "Its keyword arguments.", {}, why=LATER, validate_default=True
    )
    proxy_batch_size: int | None = not_yet("Samples in a batch.", why=LATER)
    transform_kwargs: KwargsBlock = not_yet("Settings of the matching.", {}, why=LATER, validate_default=True)
    device: str | None = not_yet("Where to match.", why=LATER)


class FedSBKwargs(Block):
    """``FedSBAggregator``."""

    device: str | None = not_yet("Where to aggregate.", why=LATER)
    global_model_dir: str | None = not_yet("Directory of the global model.", why=LATER)
    reconstruction_configs: KwargsBlock = not_yet(
        "Settings of the reconstruction.", {}, why=LATER, validate_default=True
    )


class VflKwargs(Block):
    """``VFLAggregator``."""

    optim: str | None = not_yet("Optimiser of the server's part.", why=LATER)
    optim_args: KwargsBlock = not_yet("Its keyword arguments.", {}, why=LATER, validate_default=True)
    loss_fn: str | None = not_yet("Loss: a name in `torch.nn`.", why=LATER)
    loss_fn_path: str | None = not_yet("Python file with the loss.", why=LATER)
    loss_fn_name: str | None = not_yet("Class in that file.", why=LATER)
    server_label_path: str | None = not_yet("Python file with the labels' function.", why=LATER)
    server_label_fn: str | None = not_yet("Function in that file.", why=LATER)
    server_label_fn_kwargs: KwargsBlock = not_yet(
        "Its keyword arguments.", {}, why=LATER, validate_default=True
    )
    validation_interval: int | None = not_yet("Rounds between validations.", why=LATER)
    plot_epoch: int | None = not_yet("Rounds between plots.", why=LATER)
    device: str | None = not_yet("Where to compute.", why=LATER)


AGGREGATOR_KWARGS: dict[str, type[Block]] = {
    "FedAvgAggregator": FedAvgKwargs,
    "FedAvgMAggregator": FedAvgMKwargs,
    "FedAdamAggregator": AdaptiveKwargs,
    "FedYogiAggregator": AdaptiveKwargs,
    "FedAdagradAggregator": AdaptiveKwargs,
    "FedAsyncAggregator": FedAsyncKwargs,
    "FedBuffAggregator": FedBuffKwargs,
    "FedCompassAggregator": FedCompassKwargs,
    "FedQueueAggregator": FedCompassKwargs,
    "IIADMMAggregator": AdmmKwargs,
    "ICEADMMAggregator": AdmmKwargs,
    "FedSBAggregator": FedSBKwargs,
    "DIMATaggregator": DimatKwargs,
    "VFLAggregator": VflKwargs,
}
