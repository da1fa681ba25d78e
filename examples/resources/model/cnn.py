"""A small convolutional network for square images: 582,026 parameters for MNIST."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional


class CNN(nn.Module):
    """Two convolutions with pooling, then two full layers.

    Args:
        num_channel: channels of an image (1 for grey, 3 for colour).
        num_classes: number of classes.
        num_pixel: height and width of an image, at least 16 pixels.
    """

    def __init__(self, num_channel: int = 1, num_classes: int = 10, num_pixel: int = 28) -> None:
        super().__init__()
        side = ((num_pixel - 4) // 2 - 4) // 2  # each convolution takes 4 pixels off, each pooling halves
        self.conv1 = nn.Conv2d(num_channel, 32, kernel_size=5)
        self.conv2 = nn.Conv2d(32, 64, kernel_size=5)
        self.fc1 = nn.Linear(64 * side * side, 512)
        self.fc2 = nn.Linear(512, num_classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits of shape [N, num_classes] for images of shape [N, num_channel, num_pixel, num_pixel]."""
        maps = functional.max_pool2d(functional.relu(self.conv1(images)), 2)
        maps = functional.max_pool2d(functional.relu(self.conv2(maps)), 2)
        return self.fc2(functional.relu(self.fc1(maps.flatten(1))))
