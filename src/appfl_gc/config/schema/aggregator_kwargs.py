"""The block ``aggregator_kwargs`` of each published aggregator."""

from __future__ import annotations

from typing import Literal

from appfl_gc.config.schema.block import Block, KwargsBlock, ignored, key, not_yet

SECURE = "Secure aggregation is not built yet."
LATER = "The aggregator is not built yet."
DERIVED = "Derived from `train_configs.send_gradient`."
NOT_READ = "The aggregator does not read it."


class AggregatorKwargs(Block):
    """``IIADMMAggregator``, ``ICEADMMAggregator`` and ``CoordinateMedianAggregator``, and what all take."""

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


class FedAvgKwargs(AggregatorKwargs):
    """``FedAvgAggregator``, the start of its family."""

    client_weights_mode: Literal["equal", "sample_size"] = key(
        "Weigh clients equally or by their number of training samples.", "equal"
    )


class FedAvgMKwargs(FedAvgKwargs):
    """``FedAvgMAggregator``."""

    server_momentum_param_1: float | None = key(
        "Momentum of the server, from 0 and below 1.", required=True, ge=0, lt=1, allow_inf_nan=False
    )


class FedAdagradKwargs(FedAvgMKwargs):
    """``FedAdagradAggregator``."""

    server_learning_rate: float | None = key(
        "Learning rate of the server.", required=True, gt=0, allow_inf_nan=False
    )
    server_adapt_param: float | None = key(
        "Adaptivity of the server: the smaller, the more each weight has a rate of its own.",
        required=True,
        gt=0,
        allow_inf_nan=False,
    )


class FedAdamKwargs(FedAdagradKwargs):
    """``FedAdamAggregator`` and ``FedYogiAggregator``."""

    server_momentum_param_2: float | None = key(
        "Second momentum of the server, from 0 and below 1.", required=True, ge=0, lt=1, allow_inf_nan=False
    )


class StalenessKwargs(Block):
    """Arguments of a staleness function."""

    a: float | None = key(
        "Of `polynomial` and `hinge`: how fast the weight falls.", ge=0, allow_inf_nan=False
    )
    b: float | None = key("Of `hinge`: up to which staleness the weight is whole.", ge=0, allow_inf_nan=False)
    beta: float | None = key(
        "Of `harmonic` and `exponential`: how fast the weight falls.", ge=0, allow_inf_nan=False
    )


class FedQueueKwargs(AggregatorKwargs):
    """``FedQueueAggregator``."""

    staleness_fn: Literal["constant", "polynomial", "hinge", "harmonic", "exponential"] = key(
        "How the weight of an update falls with its staleness.", "constant"
    )
    staleness_fn_kwargs: StalenessKwargs = key(
        "Its arguments: `a`, `a` and `b`, or `beta`.", StalenessKwargs()
    )
    weights: str | None = ignored("Stands in published sample files.", NOT_READ, quiet=True)


class FedCompassKwargs(FedQueueKwargs):
    """``FedCompassAggregator``."""

    alpha: float = key(
        "Weight of the updates of all clients together, if they are not stale.",
        0.9,
        gt=0,
        allow_inf_nan=False,
    )


class FedAsyncKwargs(FedCompassKwargs):
    """``FedAsyncAggregator``."""

    client_weights_mode: Literal["equal", "sample_size"] = key(
        "A client's share of `alpha`: equal, or by its number of training samples.", "equal"
    )


class FedBuffKwargs(FedAsyncKwargs):
    """``FedBuffAggregator``."""

    K: int | None = key("Updates in a buffer.", required=True, ge=1)


class TrimmedMeanKwargs(AggregatorKwargs):
    """``TrimmedMeanAggregator``."""

    trim_fraction: float | None = key(
        "Share of the updates that is left out at each end, from 0 and below 0.5.",
        required=True,
        ge=0,
        lt=0.5,
    )


class KrumKwargs(AggregatorKwargs):
    """``KrumAggregator``."""

    num_byzantine: int | None = key("How many updates may be arbitrary.", required=True, ge=0)
    num_selected: int = key("How many updates are chosen and averaged.", 1, ge=1)


class NormBoundingKwargs(FedAvgKwargs):
    """``NormBoundingAggregator``."""

    norm_bound: float | None = key(
        "How far one update may move the model, as a Euclidean norm.",
        required=True,
        gt=0,
        allow_inf_nan=False,
    )


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
    "FedAdagradAggregator": FedAdagradKwargs,
    "FedAdamAggregator": FedAdamKwargs,
    "FedYogiAggregator": FedAdamKwargs,
    "FedAsyncAggregator": FedAsyncKwargs,
    "FedBuffAggregator": FedBuffKwargs,
    "FedCompassAggregator": FedCompassKwargs,
    "FedQueueAggregator": FedQueueKwargs,
    "IIADMMAggregator": AggregatorKwargs,
    "ICEADMMAggregator": AggregatorKwargs,
    "CoordinateMedianAggregator": AggregatorKwargs,
    "TrimmedMeanAggregator": TrimmedMeanKwargs,
    "KrumAggregator": KrumKwargs,
    "NormBoundingAggregator": NormBoundingKwargs,
    "FedSBAggregator": FedSBKwargs,
    "DIMATaggregator": DimatKwargs,
    "VFLAggregator": VflKwargs,
}
