"""Federated learning across supercomputers with Globus Compute.

The public functions are :func:`run` and :func:`resume`; everything else is reached through the ``appfl-gc`` command
or the sub-packages, whose layers are described in ``docs/concepts.md``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from appfl_gc.version import VERSION as __version__

if TYPE_CHECKING:
    from appfl_gc.runner.api import Callback, RunResult, resume, run

__all__ = ["Callback", "RunResult", "__version__", "resume", "run"]


def __getattr__(name: str) -> Any:
    """Load the public API on first use, so that importing the package stays free of torch (PEP 562)."""
    if name in {"run", "resume", "RunResult", "Callback"}:
        from appfl_gc.runner import api

        return getattr(api, name)
    raise AttributeError(f"module 'appfl_gc' has no attribute {name!r}")
