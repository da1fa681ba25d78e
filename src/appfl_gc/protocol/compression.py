"""How tensors are compressed. Needs the standard library only, so that configurations can be checked with it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from appfl_gc.protocol.wire import Json, WireError, as_count, as_key

SZ3 = "SZ3"
ZFP = "ZFP"
BFLOAT16 = "bfloat16"
FLOAT16 = "float16"
INT8 = "int8"
BOUNDED = (SZ3, ZFP)
"""Compressors that are made for a bound of the error."""
FEWER_BITS = (BFLOAT16, FLOAT16, INT8)
"""Compressors that store each number in fewer bits, with or without a bound to keep."""
LOSSY = BOUNDED + FEWER_BITS

ZSTD = "zstd"
LOSSLESS = (ZSTD, "zlib", "gzip", "lzma")

ABS = "ABS"
MODES = (ABS, "REL", "ABS_AND_REL", "ABS_OR_REL", "PSNR", "NORM")
"""Error-bounding modes whose bound is kept and verified (see ``bounds``)."""

DEFAULT_CUTOFF = 1024


@dataclass(frozen=True)
class CompressionSettings:
    """How tensors are compressed.

    Attributes:
        lossy: one of ``LOSSY``; None: every bit is kept.
        lossless: one of ``LOSSLESS``, for what must not change; None: such bytes go as they are.
        mode: one of ``MODES``; what ``bound`` means.
        bound: largest error, more than 0, in the unit of ``mode``. None only for ``FEWER_BITS`` and without ``lossy``.
        cutoff: tensors with up to so many elements are never changed.

    Raises:
        ValueError: if a value is none of these; says which.
    """

    lossy: str | None = None
    lossless: str | None = ZSTD
    mode: str = ABS
    bound: float | None = None
    cutoff: int = DEFAULT_CUTOFF

    def __post_init__(self) -> None:
        if self.lossy not in (None, *LOSSY):
            raise ValueError(f"The lossy compressor is {self.lossy!r}; known are {', '.join(LOSSY)}.")
        if self.lossless not in (None, *LOSSLESS):
            raise ValueError(
                f"The lossless compressor is {self.lossless!r}; known are {', '.join(LOSSLESS)}."
            )
        if self.mode not in MODES:
            raise ValueError(f"The error-bounding mode is {self.mode!r}; known are {', '.join(MODES)}.")
        if self.bound is not None and not (math.isfinite(self.bound) and self.bound > 0):
            raise ValueError(f"The error bound is {self.bound}; it must be a number above 0.")
        if self.bound is None and self.lossy in BOUNDED:
            raise ValueError(f"The compressor {self.lossy} needs an error bound.")
        if self.cutoff < 0:
            raise ValueError(f"The cutoff is {self.cutoff}; it must be 0 or more elements.")

    def to_json(self) -> dict[str, Json]:
        """The JSON form."""
        return {
            "lossy": self.lossy,
            "lossless": self.lossless,
            "mode": self.mode,
            "bound": self.bound,
            "cutoff": self.cutoff,
        }

    @classmethod
    def from_json(cls, fields: Mapping[str, Json]) -> CompressionSettings:
        """Parse the JSON form; raises ``WireError``."""
        bound = fields.get("bound")
        if bound is not None and (isinstance(bound, bool) or not isinstance(bound, (int, float))):
            raise WireError("The bound of the compression is not a number.")
        try:
            return cls(
                _name(fields.get("lossy"), "The lossy compressor"),
                _name(fields.get("lossless"), "The lossless compressor"),
                as_key(fields.get("mode"), "The error-bounding mode", 50),
                None if bound is None else float(bound),
                as_count(fields.get("cutoff"), "The cutoff of the compression"),
            )
        except (ValueError, OverflowError) as error:
            raise WireError(f"The settings of the compression are not usable: {error}") from None


def _name(value: Json, what: str) -> str | None:
    return None if value is None else as_key(value, what, 50)
