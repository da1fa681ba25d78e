"""Packages that only some compressors need."""

from __future__ import annotations

import importlib
from typing import Any

from appfl_gc.protocol.compression import SZ3, ZFP, ZSTD, CompressionSettings
from appfl_gc.protocol.errors import VersionError

PACKAGE = {SZ3: "pysz", ZFP: "zfpy", ZSTD: "zstandard"}


def require(package: str) -> Any:
    """The module of that name; raises ``VersionError`` that says how to install it."""
    try:
        return importlib.import_module(package)
    except (
        ImportError,
        ValueError,
        AttributeError,
    ) as error:  # the last two where it was built for another numpy
        raise VersionError(
            f"The package {package}, which the compression needs, cannot be imported here: {error}.",
            f"Run in the environment of this process: pip install {package}",
        ) from None


def check_installed(settings: CompressionSettings) -> None:
    """Raise ``VersionError`` unless everything that ``settings`` need can be imported here."""
    for name in (settings.lossy, settings.lossless):
        if name in PACKAGE:
            require(PACKAGE[name])
