"""How long the batch job that this worker runs in will go on."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Mapping

from appfl_gc.site.process import seconds_of_these_workers

SLURM_END = "SLURM_JOB_END_TIME"
PBS_JOB = "PBS_JOBID"
_PBS_SECONDS = 20.0
_ATTRIBUTE = re.compile(r" {4}([A-Za-z_.]+) = (.*)")


def must_be_asked(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether ``seconds_left`` asks the batch system, which may take seconds."""
    return PBS_JOB in environ and SLURM_END not in environ


def seconds_left(configured: float | None = None, environ: Mapping[str, str] = os.environ) -> float | None:
    """Seconds until the job ends; None where nobody tells. Where PBS has to be asked it takes up to 20 s.

    Args:
        configured: the job's length in seconds, for where neither Slurm nor PBS tells its end. It counts from the
            start of the node's workers, which is a little later than the job's.
        environ: of this process.
    """
    for found in (_slurm(environ), _pbs(environ), _configured(configured)):
        if found is not None:
            return found
    return None


def _slurm(environ: Mapping[str, str]) -> float | None:
    """By the end that Slurm told the job, in seconds since 1970 of the cluster's clocks."""
    text = environ.get(SLURM_END, "")
    left = float(text) - time.time() if text.isdecimal() else -1.0
    # A job that outlives the end that it was told has been given more time.
    return left if left > 0 else None


def _pbs(environ: Mapping[str, str]) -> float | None:
    """By what ``qstat -f`` prints of the job."""
    job = environ.get(PBS_JOB)
    if not job:
        return None
    try:
        done = subprocess.run(
            ["qstat", "-f", job],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=_PBS_SECONDS,
            check=True,
            env={**environ, "LC_ALL": "C"},
        )
    except (OSError, subprocess.SubprocessError):
        return None
    told = _attributes(done.stdout.decode(errors="replace"))
    limit, used = (_seconds(told.get(f"{name}.walltime")) for name in ("Resource_List", "resources_used"))
    if limit is None:
        return None
    if used is None:
        # It has just begun, so that PBS has not measured yet.
        used = _since(told.get("stime"), limit)
    # PBS measures from time to time only; the node's workers have run in the job all their life.
    used = max(used or 0.0, seconds_of_these_workers() or 0.0)
    return limit - used if used < limit else None


def _configured(configured: float | None) -> float | None:
    if configured is None:
        return None
    run = seconds_of_these_workers()
    return configured - run if run is not None and run < configured else None


def _attributes(text: str) -> dict[str, str]:
    """The lines ``    name = value`` of the first job; what a long value goes on with begins with a tab."""
    told: dict[str, str] = {}
    for line in text.splitlines():
        found = _ATTRIBUTE.fullmatch(line)
        if found is not None:
            told.setdefault(found.group(1), found.group(2).strip())
    return told


def _seconds(text: str | None) -> float | None:
    """``[[days:]hours:]minutes:seconds``, or seconds alone."""
    parts = (text or "").split(":")
    if not 1 <= len(parts) <= 4 or not all(part.isdecimal() for part in parts):
        return None
    units = (1, 60, 3600, 86400)
    return float(sum(int(part) * unit for part, unit in zip(reversed(parts), units, strict=False)))


def _since(start: str | None, limit: float) -> float | None:
    """Seconds since a time that PBS prints, as far as they can be those of a job of ``limit`` seconds."""
    try:
        begun = time.mktime(time.strptime(start or "", "%a %b %d %H:%M:%S %Y"))
    except ValueError:
        return None
    spent = time.time() - begun
    return spent if 0 <= spent <= limit else None
