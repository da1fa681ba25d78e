"""Names that a configuration may use for what is built in, and whether it is built yet."""

from __future__ import annotations

SCHEDULERS = {
    "SyncScheduler": True,
    "AsyncScheduler": False,
    "CompassScheduler": False,
    "QueueScheduler": False,
}
"""Published schedulers; True for those that work."""

AGGREGATORS = {
    "FedAvgAggregator": True,
    "FedAvgMAggregator": False,
    "FedAdamAggregator": False,
    "FedYogiAggregator": False,
    "FedAdagradAggregator": False,
    "FedAsyncAggregator": False,
    "FedBuffAggregator": False,
    "FedCompassAggregator": False,
    "FedQueueAggregator": False,
    "IIADMMAggregator": False,
    "ICEADMMAggregator": False,
    "FedSBAggregator": False,
    "DIMATaggregator": False,
    "FederatedLoRASVDAggregator": False,
    "DecentralizedAggregator": False,
    "DecentralizedDLoRABSVDAggregator": False,
    "VFLAggregator": False,
}
"""Published aggregators; True for those that work."""

TRAINERS = {
    "VanillaTrainer": True,
    "FedProxTrainer": False,
    "IIADMMTrainer": False,
    "ICEADMMTrainer": False,
    "MonaiTrainer": False,
    "LightningTrainer": False,
    "SklearnTrainer": False,
    "FedSBTrainer": False,
    "LLMDummyTrainer": False,
    "DIMATTrainer": False,
}
"""Published trainers; True for those that work."""

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
