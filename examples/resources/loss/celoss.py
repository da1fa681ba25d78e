"""Cross entropy, written as a loss of one's own."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional


class CELoss(nn.Module):
    """Mean cross entropy of a batch; ``label_smoothing`` (0 to 1) comes from ``loss_fn_kwargs``."""

    def __init__(self, label_smoothing: float = 0.0) -> None:
        super().__init__()
        self.label_smoothing = label_smoothing

    def forward(self, prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """The loss, in nats, of logits of shape [N, classes] against class numbers of shape [N]."""
        return functional.cross_entropy(prediction, target.long(), label_smoothing=self.label_smoothing)
