"""Draw who holds what: a table of clients and classes, with each client's size beside it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DEFAULT_FILENAME = "partition.png"

_NUMBERS_UP_TO = 30  # clients or classes; with more, the cells are too small for numbers
_INK, _SOFT, _BAR = "#1f2933", "#7b8794", "#2f6f8f"
_SCALE = ("#eef4f7", "#b9d7e3", "#6fadc6", "#2f7f9f", "#14506b")  # light to dark, even in lightness
_log = logging.getLogger(__name__)


def draw_partition(
    counts: NDArray[np.int64], classes: Sequence[str], dirname: str | None, filename: str | None
) -> Path | None:
    """Write the picture of a partition; what prevents it is a warning, never an error.

    Args:
        counts: samples of each client and class, [clients, classes].
        classes: names of the classes.
        dirname: folder, made if missing; the working directory if None.
        filename: file name, by its ending PNG, PDF or SVG; ``partition.png`` if None.

    Returns:
        The file, or None if it could not be written.
    """
    path = Path(dirname or ".", filename or DEFAULT_FILENAME)
    path = path if path.suffix else path.with_suffix(".png")
    try:
        figure = _figure(counts, classes)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=150)
    except ImportError:
        _log.warning("No picture of the partition: matplotlib is not installed (pip install matplotlib).")
        return None
    except (OSError, ValueError) as error:
        _log.warning("No picture of the partition: %s can't be written: %s.", path, error)
        return None
    _log.info("Picture of the partition: %s.", path)
    return path


def _figure(counts: NDArray[np.int64], classes: Sequence[str]) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    clients = len(counts)
    width = 3.6 + 0.5 * min(max(len(classes), 6), _NUMBERS_UP_TO)
    height = 1.5 + min(0.42 * max(clients, 2), 10.5)
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    table, bars = figure.subplots(1, 2, sharey=True, width_ratios=[width - 3.2, 1.8])
    _draw_table(table, counts, classes)
    _draw_sizes(bars, counts.sum(axis=1))
    noun = "client" if clients == 1 else "clients"
    figure.suptitle(
        f"{counts.sum():,} samples, {clients} {noun}, {len(classes)} classes",
        x=0.012,
        ha="left",
        color=_INK,
        fontsize=12,
        fontweight="bold",
    )
    return figure


def _draw_table(axes: Axes, counts: NDArray[np.int64], classes: Sequence[str]) -> None:
    from matplotlib.colors import LinearSegmentedColormap

    clients = len(counts)
    scale = LinearSegmentedColormap.from_list("samples", _SCALE).with_extremes(bad="white")
    most = max(int(counts.max()), 1)
    small = clients <= _NUMBERS_UP_TO and len(classes) <= _NUMBERS_UP_TO
    axes.pcolormesh(
        np.ma.masked_equal(counts, 0),
        cmap=scale,
        vmin=0,
        vmax=most,
        edgecolors="white" if small else "none",
        linewidth=2 if small else 0,
    )
    if small:
        for client, class_ in zip(*np.nonzero(counts), strict=True):
            count = int(counts[client, class_])
            dark = count > 0.55 * most
            axes.text(
                class_ + 0.5,
                client + 0.5,
                f"{count:,}",
                ha="center",
                va="center",
                fontsize=8.5 if count < 10_000 else 7,
                color="white" if dark else _INK,
            )
    axes.set_xticks(*_ticks(list(classes)))
    axes.set_yticks(*_ticks([str(client) for client in range(clients)]))
    axes.set_ylim(clients, 0)
    axes.set_xlabel("class", color=_SOFT)
    axes.set_ylabel("client", color=_SOFT)
    _plain(axes)


def _draw_sizes(axes: Axes, sizes: NDArray[np.int64]) -> None:
    clients = len(sizes)
    small = clients <= _NUMBERS_UP_TO
    axes.barh(np.arange(clients) + 0.5, sizes, height=0.62 if small else 1.0, color=_BAR)
    axes.set_xlim(0, float(sizes.max()) * (1.5 if small else 1.05))
    if small:
        for client, size in enumerate(sizes):
            axes.text(size, client + 0.5, f" {size:,}", va="center", ha="left", fontsize=8.5, color=_INK)
        axes.set_xticks([])
    axes.set_xlabel("samples of the client", color=_SOFT, loc="left")
    _plain(axes)


def _ticks(names: list[str]) -> tuple[list[float], list[str]]:
    """Positions and names of at most about thirty marks."""
    step = -(-len(names) // _NUMBERS_UP_TO)
    round_step = next(size for size in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, step) if size >= step)
    return [place + 0.5 for place in range(0, len(names), round_step)], names[::round_step]


def _plain(axes: Any) -> None:
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.tick_params(length=0, colors=_INK, labelsize=9)
