"""The block ``compressor_configs`` of a configuration, with the names that the field uses, as settings."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from typing import Any

from appfl_gc.protocol.compression import (
    ABS,
    BOUNDED,
    DEFAULT_CUTOFF,
    LOSSLESS,
    LOSSY,
    MODES,
    SZ3,
    ZFP,
    ZSTD,
    CompressionSettings,
)
from appfl_gc.protocol.errors import NotSupportedError, UsageError

_LOSSY = {
    "SZ3Compressor": SZ3,
    "SZ2Compressor": SZ3,
    "SZxCompressor": SZ3,
    "ZFPCompressor": ZFP,
    **{name: name for name in LOSSY if name not in BOUNDED},
}
_REPLACED = {"SZ2Compressor", "SZxCompressor"}
_LOSSLESS = {**{name: name for name in LOSSLESS}, "blosc": ZSTD}
_POINTWISE = "PW_REL"
_RELATIVE = ("REL", "ABS_AND_REL", "ABS_OR_REL")
LEAST_PSNR = 10.0
"""Decibels. The error's root mean square is then a third of the range of the values."""


def settings_from_configs(configs: Mapping[str, Any]) -> tuple[CompressionSettings | None, list[str]]:
    """What ``compressor_configs`` says.

    Args:
        configs: the block's values by key; a missing key and None are the same.

    Returns:
        The settings, None unless ``enable_compression`` is true; and sentences of warning about names that
        are read as others.

    Raises:
        UsageError: if a value cannot be used; names the key and what was expected.
        NotSupportedError: for an error-bounding mode that cannot be kept.
    """
    if not configs.get("enable_compression"):
        return None, []
    warnings: list[str] = []
    lossy = _lossy(configs.get("lossy_compressor"), warnings)
    lossless = _lossless(configs.get("lossless_compressor"), warnings)
    mode = _mode(configs.get("error_bounding_mode"), lossy)
    bound = _bound(configs.get("error_bound"), lossy, mode)
    cutoff = configs.get("param_cutoff")
    if cutoff is None:
        cutoff = DEFAULT_CUTOFF
    if isinstance(cutoff, bool) or not isinstance(cutoff, int) or cutoff < 0:
        raise UsageError(
            f"compressor_configs.param_cutoff is {cutoff!r}; expected a number of elements, 0 or more."
        )
    return CompressionSettings(lossy, lossless, mode, bound, cutoff), warnings


def _lossy(name: Any, warnings: list[str]) -> str | None:
    if name is None:
        return None
    if name not in _LOSSY:
        raise _unknown("lossy_compressor", name, tuple(_LOSSY))
    if name in _REPLACED:
        warnings.append(
            f"compressor_configs.lossy_compressor: {name} is read as SZ3Compressor, which keeps the same bounds; "
            "the bytes of the two are not exchangeable."
        )
    return _LOSSY[name]


def _lossless(name: Any, warnings: list[str]) -> str:
    if name is None:
        return ZSTD
    if name not in _LOSSLESS:
        raise _unknown("lossless_compressor", name, tuple(_LOSSLESS))
    if name == "blosc":
        warnings.append(
            "compressor_configs.lossless_compressor: blosc is read as zstd; bytes of equal weight are put together "
            "first, as blosc does."
        )
    return _LOSSLESS[name]


def _mode(name: Any, lossy: str | None) -> str:
    if name is None:
        return ABS if lossy is None or lossy not in BOUNDED else "REL"
    if name == _POINTWISE:
        raise NotSupportedError(
            "compressor_configs.error_bounding_mode: PW_REL is not supported yet: no compressor that is built in "
            "bounds the error of each number relative to that number.",
            "REL bounds it relative to the range of the tensor's values. With lossy_compressor: bfloat16 or float16 "
            "each number keeps 8 or 11 significant bits.",
        )
    if name not in MODES:
        raise _unknown("error_bounding_mode", name, (*MODES, _POINTWISE))
    return str(name)


def _bound(value: Any, lossy: str | None, mode: str) -> float | None:
    if value is None:
        if lossy in BOUNDED:
            raise UsageError(
                "compressor_configs.error_bound is missing; the lossy compressor needs it.",
                "Write for example error_bounding_mode: REL and error_bound: 1e-3.",
            )
        return None
    try:
        # YAML reads 1e-3 as text.
        bound = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        bound = math.nan
    if not (math.isfinite(bound) and bound > 0):
        raise UsageError(
            f"compressor_configs.error_bound is {value!r}; expected a number above 0"
            f"{' (decibels)' if mode == 'PSNR' else ''}."
        )
    if mode in _RELATIVE and bound >= 1:
        raise UsageError(
            f"compressor_configs.error_bound is {value!r}; with error_bounding_mode {mode} an error as large as the "
            "whole range of a tensor's values would be allowed, so nothing would be left of it.",
            "1e-3 and 1e-2 are usual.",
        )
    if mode == "PSNR" and bound < LEAST_PSNR:
        raise UsageError(
            f"compressor_configs.error_bound is {value!r} decibels; below {LEAST_PSNR:.0f} little is left of a tensor.",
            "60 and more are usual.",
        )
    return bound


def _unknown(key: str, name: Any, known: tuple[str, ...]) -> UsageError:
    near = difflib.get_close_matches(str(name), known, 1)
    return UsageError(
        f"compressor_configs.{key} is {name!r}; expected one of {', '.join(known)}.",
        f"Did you mean {near[0]}?" if near else "",
    )
