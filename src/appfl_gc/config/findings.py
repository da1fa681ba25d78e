"""Collects what a check finds, each finding once."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import replace

from appfl_gc.config.diagnostic import Diagnostic, Severity
from appfl_gc.config.document import Mark


class Findings:
    """Diagnostics in the order in which they were found, without repetition.

    A value that all clients share is checked for each of them and reported once.
    """

    def __init__(self) -> None:
        self._found: dict[Diagnostic, None] = {}

    def error(self, message: str, mark: Mark, key: str = "", hint: str = "") -> None:
        """Something that stops a run."""
        self._add(Severity.ERROR, message, mark, key, hint)

    def warning(self, message: str, mark: Mark, key: str = "", hint: str = "") -> None:
        """Something that is probably not meant; an error under ``--strict``."""
        self._add(Severity.WARNING, message, mark, key, hint)

    def note(self, message: str, mark: Mark, key: str = "", hint: str = "") -> None:
        """Something worth knowing."""
        self._add(Severity.NOTE, message, mark, key, hint)

    def extend(self, diagnostics: Iterable[Diagnostic]) -> None:
        """Take over diagnostics made elsewhere."""
        self._found.update(dict.fromkeys(diagnostics))

    def _add(self, severity: Severity, message: str, mark: Mark, key: str, hint: str) -> None:
        self._found[Diagnostic(severity, message, mark.file, mark.line, key, hint)] = None

    def diagnostics(self, *, strict: bool = False) -> tuple[Diagnostic, ...]:
        """All findings: errors first, then warnings, then notes, each by file and line."""
        found = list(self._found)
        if strict:
            found = [
                replace(item, severity=Severity.ERROR) if item.severity is Severity.WARNING else item
                for item in found
            ]
        rank = list(Severity)
        return tuple(sorted(found, key=lambda item: (rank.index(item.severity), item.file, item.line or 0)))


def nearest(name: str, candidates: Iterable[str], alike: float = 0.6) -> str:
    """The candidate that is spelt most like ``name``, else the shortest that contains it, or "" if none is near.

    ``alike`` is the least share of letters that two near names have in common.
    """
    names = {candidate.lower(): candidate for candidate in candidates}
    found = difflib.get_close_matches(name.lower(), names, n=1, cutoff=alike)
    longer = [candidate for candidate in names if len(name) > 2 and name.lower() in candidate]
    best = found or sorted(longer, key=len)
    return names[best[0]] if best else ""


def did_you_mean(name: str, candidates: Iterable[str]) -> str:
    """``Did you mean X?``, or "" if no candidate is near."""
    near = nearest(name, candidates)
    return f"Did you mean `{near}`?" if near else ""
