"""The site's record of what it was asked to run, and of what it refused."""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path

from appfl_gc.protocol.errors import SourceRefusedError
from appfl_gc.protocol.identity import CallId
from appfl_gc.protocol.source import Source


@dataclass(frozen=True)
class RefusedSource:
    """A source that waits for review."""

    sha256: str
    kind: str
    name: str
    filename: str
    run: str
    client: str
    path: Path


def record_decision(audit: Path, source: Source, identity: CallId, allowed: bool) -> None:
    """Append one line to the audit file. A write of one line with O_APPEND is not torn by other workers.

    Raises:
        SourceRefusedError: if that is not possible; what can't be audited does not run.
    """
    line = {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "decision": "allowed" if allowed else "refused",
        "kind": source.kind,
        "name": source.name,
        "filename": source.filename,
        "sha256": source.sha256,
        "run": identity.run,
        "client": identity.client,
        "round": identity.round,
    }
    try:
        audit.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(audit, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(descriptor, (json.dumps(line) + "\n").encode())
        finally:
            os.close(descriptor)
    except OSError as error:
        raise SourceRefusedError(
            f"The site's audit file {audit} can't be written ({error.strerror}), so nothing may run here.",
            "Make it writable for the endpoint's user, or name another under `audit:` in the site policy.",
        ) from None


def keep_for_review(directory: Path, source: Source, identity: CallId) -> None:
    """Keep a refused source, so that the site's owner can read it and decide."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / f"{source.sha256}.py").write_text(source.text or "")
    about = {
        "kind": source.kind,
        "name": source.name,
        "filename": source.filename,
        "run": identity.run,
        "client": identity.client,
    }
    (directory / f"{source.sha256}.json").write_text(json.dumps(about))


def refused_sources(directory: Path) -> list[RefusedSource]:
    """The sources that wait for review, by hash."""
    found = []
    for about in sorted(directory.glob("*.json")) if directory.is_dir() else []:
        fields = json.loads(about.read_text())
        found.append(RefusedSource(sha256=about.stem, path=about.with_suffix(".py"), **fields))
    return found
