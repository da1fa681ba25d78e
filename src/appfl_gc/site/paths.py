"""Where a site keeps what it must remember."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

SITE_HOME = "APPFL_GC_SITE_HOME"


@dataclass(frozen=True)
class SitePaths:
    """Directories and files under the site's home. Nothing is made before it is needed."""

    home: Path

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> SitePaths:
        """``$APPFL_GC_SITE_HOME``, or ``~/.appfl_gc/site``."""
        chosen = environ.get(SITE_HOME)
        return cls(Path(chosen) if chosen else Path.home() / ".appfl_gc" / "site")

    @property
    def sources(self) -> Path:
        """User source files, by hash."""
        return self.home / "sources"

    @property
    def refused(self) -> Path:
        """Source files that the policy refused, kept for review."""
        return self.home / "refused"

    @property
    def outbox(self) -> Path:
        """Replies that no later call has acknowledged."""
        return self.home / "outbox"

    @property
    def audit(self) -> Path:
        """The audit file, one JSON object a line."""
        return self.home / "audit.jsonl"
