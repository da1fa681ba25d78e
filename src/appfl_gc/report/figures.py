"""Bytes, durations and metric values as people read them."""

from __future__ import annotations

import math
from collections.abc import Mapping

from appfl_gc.runner.events import PayloadMoving


def bytes_text(count: float) -> str:
    """``4.8 MB``: three digits, decimal units."""
    if count < 1000:
        return f"{count:.0f} B"
    for unit in ("kB", "MB", "GB", "TB"):
        count /= 1000
        if count < 999.5 or unit == "TB":
            break
    return f"{count:.{_decimals(count)}f} {unit}"


def seconds_text(seconds: float) -> str:
    """A duration: ``0.03 s``, ``4.2 s``, ``1 min 05 s``, ``2 h 03 min``, ``3 d 04 h``."""
    if seconds < 0.095:
        return f"{seconds:.2f} s"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 86_400:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86_400} d {whole % 86_400 // 3600:02d} h"


def short_seconds_text(seconds: float) -> str:
    """A duration in at most six characters up to 99 days: ``4.2 s``, ``1m05s``, ``2h03m``, ``3d04h``."""
    if seconds < 59.5:
        return seconds_text(seconds)
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    if whole < 86_400:
        return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
    return f"{whole // 86_400}d{whole % 86_400 // 3600:02d}h"


def clock_text(seconds: float) -> str:
    """Time of run: ``0:01:05``, from one day on ``3 d 4:00:00``."""
    whole = int(max(0.0, seconds))
    days, rest = divmod(whole, 86_400)
    clock = f"{rest // 3600}:{rest % 3600 // 60:02d}:{rest % 60:02d}"
    return f"{days} d {clock}" if days else clock


def value_text(value: float | None) -> str:
    """A metric with four digits; ``-`` for none."""
    if value is None:
        return "-"
    if not math.isfinite(value):
        return str(value)
    if value == 0:
        return "0"
    if 1e-3 <= abs(value) < 1e5:
        return f"{value:.{min(6, max(0, 3 - math.floor(math.log10(abs(value)))))}f}"
    return f"{value:.2e}"


def _decimals(value: float) -> int:
    return 0 if value >= 99.5 else 1


LOSS_NAMES = ("server_val_loss", "val_loss", "train_loss", "loss", "pre_val_loss")
ACCURACY_NAMES = (
    "server_val_accuracy",
    "val_accuracy",
    "train_accuracy",
    "accuracy",
    "pre_val_accuracy",
)


def loss_of(metrics: Mapping[str, float]) -> float | None:
    """The loss that describes the model after training best; ``None`` if no metric is a loss."""
    return _first(metrics, LOSS_NAMES, "loss")


def accuracy_of(metrics: Mapping[str, float]) -> float | None:
    """The accuracy after training, else before it; ``None`` if no metric is an accuracy."""
    return _first(metrics, ACCURACY_NAMES, "accuracy")


def metrics_text(metrics: Mapping[str, float]) -> str:
    """``loss 0.31, accuracy 92.1`` of what is there, or ""."""
    named = {"loss": loss_of(metrics), "accuracy": accuracy_of(metrics)}
    return ", ".join(f"{name} {value_text(value)}" for name, value in named.items() if value is not None)


def _first(metrics: Mapping[str, float], names: tuple[str, ...], ending: str) -> float | None:
    for name in names:
        if name in metrics:
            return metrics[name]
    return next((value for name, value in metrics.items() if name.endswith(ending)), None)


def moving_text(moving: PayloadMoving) -> str:
    """``sending the model: 1.2 GB of 4.0 GB (30 %)``, with the client before it where there is one."""
    share = f" of {bytes_text(moving.size)} ({moving.done / moving.size:.0%})" if moving.size else ""
    who = f"{moving.client}: " if moving.client else ""
    return f"{who}{moving.what}: {bytes_text(moving.done)}{share}"
