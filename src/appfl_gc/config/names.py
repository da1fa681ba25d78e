"""Names that a configuration may use for what is built in, and whether it is built yet."""

from __future__ import annotations

SCHEDULERS = {
    "SyncScheduler": True,
    "AsyncScheduler": True,
    "CompassScheduler": True,
    "QueueScheduler": True,
}
"""Published schedulers; True for those that work."""

AGGREGATORS = {
    "FedAvgAggregator": True,
    "FedAvgMAggregator": True,
    "FedAdamAggregator": True,
    "FedYogiAggregator": True,
    "FedAdagradAggregator": True,
    "FedAsyncAggregator": True,
    "FedBuffAggregator": True,
    "FedCompassAggregator": True,
    "FedQueueAggregator": True,
    "IIADMMAggregator": True,
    "ICEADMMAggregator": True,
    "CoordinateMedianAggregator": True,
    "TrimmedMeanAggregator": True,
    "KrumAggregator": True,
    "NormBoundingAggregator": True,
    "FedSBAggregator": False,
    "DIMATaggregator": False,
    "FederatedLoRASVDAggregator": False,
    "DecentralizedAggregator": False,
    "DecentralizedDLoRABSVDAggregator": False,
    "VFLAggregator": False,
}
"""Published aggregators, and robust ones; True for those that work."""

TRAINERS = {
    "VanillaTrainer": True,
    "FedProxTrainer": True,
    "IIADMMTrainer": True,
    "ICEADMMTrainer": True,
    "MonaiTrainer": False,
    "LightningTrainer": False,
    "SklearnTrainer": False,
    "FedSBTrainer": False,
    "LLMDummyTrainer": False,
    "DIMATTrainer": False,
}
"""Published trainers; True for those that work."""

STALENESS_ARGUMENTS: dict[str, tuple[str, ...]] = {
    "constant": (),
    "polynomial": ("a",),
    "hinge": ("a", "b"),
    "harmonic": ("beta",),
    "exponential": ("beta",),
}
"""Staleness functions, and the keys of ``staleness_fn_kwargs`` that each needs."""

TORCH_OPTIMISERS = (
    "ASGD", "Adadelta", "Adafactor", "Adagrad", "Adam", "AdamW", "Adamax", "LBFGS", "Muon", "NAdam", "RAdam",
    "RMSprop", "Rprop", "SGD", "SparseAdam",
)  # fmt: skip
"""Optimisers of ``torch.optim``. A site's torch may know more."""

TORCH_LOSSES = (
    "AdaptiveLogSoftmaxWithLoss", "BCELoss", "BCEWithLogitsLoss", "CTCLoss", "CosineEmbeddingLoss",
    "CrossEntropyLoss", "GaussianNLLLoss", "HingeEmbeddingLoss", "HuberLoss", "KLDivLoss", "L1Loss",
    "LinearCrossEntropyLoss", "MSELoss", "MarginRankingLoss", "MultiLabelMarginLoss",
    "MultiLabelSoftMarginLoss", "MultiMarginLoss", "NLLLoss", "PoissonNLLLoss", "SmoothL1Loss", "SoftMarginLoss",
    "TripletMarginLoss", "TripletMarginWithDistanceLoss",
)  # fmt: skip
"""Losses of ``torch.nn``. A site's torch may know more."""
