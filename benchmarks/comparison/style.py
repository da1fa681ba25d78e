"""How plots look: colours that colour-blind people tell apart, different line styles, small SVG files."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TypeAlias

import matplotlib
import matplotlib.pyplot as plt
from matplotlib.figure import Figure

matplotlib.use("svg")
plt.rcParams.update(
    {
        "svg.fonttype": "none",  # text stays text: small files, searchable, the reader's font
        "svg.hashsalt": "appfl_gc",  # the same picture has the same bytes
        "font.family": "sans-serif",
        "font.sans-serif": ["DejaVu Sans", "Arial", "sans-serif"],
        "font.size": 9,
        "axes.titlesize": 10,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": "#dddddd",
        "grid.linewidth": 0.6,
        "legend.frameon": False,
        "lines.linewidth": 1.6,
    }
)

COLOURS: Mapping[str, str] = MappingProxyType(
    {
        "black": "#000000",
        "orange": "#e69f00",
        "sky": "#56b4e9",
        "green": "#009e73",
        "blue": "#0072b2",
        "red": "#d55e00",
        "purple": "#cc79a7",
        "grey": "#999999",
    }
)
"""Okabe and Ito's palette (Color Universal Design, 2008)."""

LineStyle: TypeAlias = str | tuple[int, tuple[int, ...]]

LINES: Mapping[str, tuple[str, LineStyle]] = MappingProxyType(
    {
        "Sync": (COLOURS["black"], "-"),
        "Async": (COLOURS["orange"], "--"),
        "Async, no discount": (COLOURS["purple"], (0, (5, 1, 1, 1))),
        "FedBuff": (COLOURS["sky"], "-."),
        "Compass": (COLOURS["green"], "-"),
        "Queue": (COLOURS["red"], (0, (1, 1))),
    }
)
"""Colour and line style of each algorithm, the same in all plots."""


def save(figure: Figure, path: Path) -> None:
    """Write an SVG with a white ground, coordinates to a tenth of a point, and no date."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(
        path,
        format="svg",
        metadata={"Date": None, "Creator": None},
        facecolor="white",
        bbox_inches="tight",
        pad_inches=0.15,
    )
    plt.close(figure)
    text = path.read_text(encoding="utf-8")
    text = re.sub(r"(?<=[ MLCQ\"(,])-?\d+\.\d{2,}(?=[ \"),\n])", lambda found: f"{float(found[0]):.1f}", text)
    path.write_text("\n".join(line.rstrip() for line in text.splitlines()) + "\n", encoding="utf-8")
