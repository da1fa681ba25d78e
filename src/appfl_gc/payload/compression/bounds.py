"""What an error bound allows in one tensor, and whether a decoded piece keeps it.

The modes mean what SZ documents: ``ABS`` bounds the largest error; ``REL`` the largest error relative to the
range (maximum minus minimum) of the tensor's values; ``ABS_AND_REL`` and ``ABS_OR_REL`` the smaller and the
larger of the two, with the same number for both; ``PSNR`` is the least peak signal-to-noise ratio in decibels,
20 log10(range) - 10 log10(mean squared error); ``NORM`` the largest Euclidean norm of the error.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from appfl_gc.protocol.compression import CompressionSettings


@dataclass(frozen=True)
class Bound:
    """What may happen to each piece of one tensor.

    Attributes:
        largest: the largest absolute error; None: not limited.
        mean_square: the largest mean of the squared errors; None: not limited.
    """

    largest: float | None = None
    mean_square: float | None = None

    def steps(self) -> list[float]:
        """Absolute bounds for a compressor, in the order in which to try them; none where nothing may change.

        Rounding to multiples of 2b gives errors about uniform in [-b, b], whose mean square is b²/3. The last
        step keeps a limit of the mean square whatever the errors' distribution.
        """
        if self.largest is not None:
            return [self.largest] if self.largest > 0 else []
        if self.mean_square is not None and self.mean_square > 0:
            return [math.sqrt(3 * self.mean_square), math.sqrt(self.mean_square)]
        return []

    def keeps(self, before: torch.Tensor, after: torch.Tensor) -> float | None:
        """The largest absolute error, or None if it violates the bound.

        Args:
            before: numbers of any floating dtype, flat and finite.
            after: as many, decoded, of the same dtype.
        """
        errors = after.to(torch.float64).sub_(before.to(torch.float64))
        largest = float(errors.abs().max())
        if not math.isfinite(largest) or (self.largest is not None and largest > self.largest):
            return None
        if self.mean_square is not None and float(errors.square().mean()) > self.mean_square:
            return None
        return largest


def bound_for(settings: CompressionSettings, tensor: torch.Tensor) -> Bound | None:
    """What ``settings`` allow in ``tensor`` (flat, not empty); None if a value in it is not finite."""
    low, high = (float(end) for end in torch.aminmax(tensor))
    if not (math.isfinite(low) and math.isfinite(high)):
        return None
    span, bound = high - low, settings.bound
    if bound is None:
        return Bound()
    if settings.mode == "PSNR":
        return Bound(mean_square=span * span * 10 ** (-bound / 10))
    if settings.mode == "NORM":
        return Bound(mean_square=bound * bound / tensor.numel())
    relative = bound * span
    largest = {
        "ABS": bound,
        "REL": relative,
        "ABS_AND_REL": min(bound, relative),
        "ABS_OR_REL": max(bound, relative),
    }[settings.mode]
    return Bound(largest if math.isfinite(largest) else 0.0)
