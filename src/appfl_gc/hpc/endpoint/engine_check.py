"""What is wrong with an engine's settings, once they are rendered."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from appfl_gc.hpc.endpoint.configure import on_this_node_only
from appfl_gc.hpc.endpoint.finding import Finding, error, warning
from appfl_gc.hpc.endpoint.options import COMPUTE_ENGINE, POOL_ENGINE
from appfl_gc.hpc.endpoint.worker_environment import binaries
from appfl_gc.protocol.wire import clean_text

_GPUS = re.compile(r"\b(ngpus|gpus|gpus-per-node|gres)\s*[=:]\s*(?:gpu:)?(?:[A-Za-z][\w.-]*:)?(\d+)")
_DEFAULT_IDLE = 120


def engine_findings(config: Mapping[str, Any], round_gap_seconds: float) -> Iterator[Finding]:
    """All that is wrong with a user endpoint's rendered configuration."""
    engine = config.get("engine")
    if not isinstance(engine, Mapping):
        yield error("The configuration has no engine.")
        return
    yield from _engine(engine)
    yield from _idle(config, round_gap_seconds)
    if engine.get("type") == POOL_ENGINE:
        return
    provider = engine.get("provider")
    if not isinstance(provider, Mapping):
        yield error("The engine has no provider, so nothing starts workers.")
        return
    batch = provider.get("type") != "LocalProvider"
    if batch:
        yield from _batch(config, engine, provider, round_gap_seconds)
    yield from _gpus(engine, provider)
    if str(binaries()) not in str(provider.get("worker_init", "")):
        yield warning(
            f"worker_init does not activate {binaries().parent}: workers use another environment.",
            "appfl_gc must be installed there too, in a version that fits.",
        )


def _engine(engine: Mapping[str, Any]) -> Iterator[Finding]:
    kind = clean_text(str(engine.get("type")), 80)
    if kind == "HighThroughputEngine":
        yield error(
            "The engine HighThroughputEngine is gone; today's agent refuses it.",
            f"It is {COMPUTE_ENGINE} now; `appfl-gc endpoint migrate` rewrites the file.",
        )
    elif kind not in (COMPUTE_ENGINE, POOL_ENGINE):
        yield warning(
            f"Training has not been tried on the engine {kind}.", f"{COMPUTE_ENGINE} is known to work."
        )
    if isinstance(engine.get("strategy"), Mapping):
        yield error(
            "The engine's `strategy` is a block, which stops it when it starts.",
            "Write `job_status_kwargs: {strategy: simple, max_idletime: 3600}` instead.",
        )


def _idle(config: Mapping[str, Any], round_gap_seconds: float) -> Iterator[Finding]:
    period = _number(config.get("heartbeat_period"), 30)
    idle = _number(config.get("idle_heartbeats_soft"), 0) * period
    if 0 < idle < round_gap_seconds:
        yield warning(
            f"The user endpoint stops after {idle:g} seconds without work, and a client may wait "
            f"{round_gap_seconds:g} for its next round: it would start anew, and its jobs queue again.",
            "Raise idle_heartbeats_soft; it counts heartbeats.",
        )


def _batch(
    config: Mapping[str, Any],
    engine: Mapping[str, Any],
    provider: Mapping[str, Any],
    round_gap_seconds: float,
) -> Iterator[Finding]:
    for names, what in ((("account",), "account"), (("queue", "partition"), "queue")):
        if not any(provider.get(name) for name in names):
            yield warning(
                f"There is no {what}, so the scheduler's default holds, and many refuse a job without one.",
                f"Give `--{what}`, or let each client give `{what}`.",
            )
    scaling = engine.get("job_status_kwargs")
    idle = _number(scaling.get("max_idletime") if isinstance(scaling, Mapping) else None, _DEFAULT_IDLE)
    if idle < round_gap_seconds:
        yield warning(
            f"A job is given back after {idle:g} seconds without work, and a client may wait "
            f"{round_gap_seconds:g} for its next round: it would queue again each time.",
            "Raise max_idletime.",
        )
    if not isinstance(provider.get("walltime", ""), str):
        yield error(
            f"walltime is the number {provider['walltime']}: without quotes YAML reads a time as a number.",
            'Write it in quotes, as "01:00:00".',
        )
    paths = config.get("paths")
    place = paths.get("endpoint_dir") if isinstance(paths, Mapping) else None
    if isinstance(place, str) and place.startswith("/") and on_this_node_only(Path(place)):
        yield error(
            f"User endpoints write to {place}, which the nodes of a job don't see.",
            "Name a directory of a shared file system with `--directory`.",
        )


def _gpus(engine: Mapping[str, Any], provider: Mapping[str, Any]) -> Iterator[Finding]:
    asked = " ".join(str(provider.get(key, "")) for key in ("select_options", "scheduler_options", "gres"))
    match = _GPUS.search(asked)
    gpus = int(match.group(2)) if match else int(_number(provider.get("gpus_per_node"), 0))
    workers = _number(engine.get("max_workers_per_node"), 0)
    pinned = engine.get("available_accelerators")
    count = len(pinned) if isinstance(pinned, list) else _number(pinned, 0)
    if not pinned and gpus and workers != 1:
        yield warning(
            f"{f'{workers:g} workers' if workers else 'As many workers as there are cores'} of a node share its "
            f"{gpus} GPUs, and each would take the first.",
            "Give `--accelerators` for one GPU a worker, or `--max-workers-per-node 1`.",
        )
    elif count and gpus and count > gpus:
        yield warning(
            f"available_accelerators is {count:g}, but a job asks for {gpus} GPUs a node.",
            "Make both the same.",
        )
    elif count and 0 < workers < count:
        yield warning(
            f"{count:g} accelerators, but {workers:g} workers: {count - workers:g} stay idle.",
            "Leave max_workers_per_node out: it becomes the number of accelerators.",
        )


def _number(value: object, otherwise: float) -> float:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else otherwise
