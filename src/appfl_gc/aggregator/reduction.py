"""From updates in an arena to the file of the next global model, block by block."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from appfl_gc.aggregator.base import Aggregator, Cohort
from appfl_gc.aggregator.fold import Fold, Write
from appfl_gc.aggregator.server_state import StateLayout
from appfl_gc.aggregator.user_class import UserClassAggregator, by_client
from appfl_gc.payload import model_file
from appfl_gc.payload.arena import Arena
from appfl_gc.payload.codec import Layout, difference
from appfl_gc.payload.cores import available_cores
from appfl_gc.payload.files import replacing, write_all_at
from appfl_gc.protocol.errors import UserCodeError
from appfl_gc.protocol.schedule import UpdateMeta
from appfl_gc.protocol.update_spec import Meaning

MODEL_BYTES_PER_THREAD = 40 << 20
"""Bytes of model for which a thread more is worth its blocks, which take about a fifth of that."""


def aggregate(
    aggregator: Aggregator | UserClassAggregator,
    current: Path,
    arena: Arena,
    slots: Sequence[int],
    metas: Sequence[UpdateMeta],
    staleness: Sequence[int],
    out: Path,
    *,
    cohort: Cohort | None = None,
    trained: frozenset[str] | None = None,
    state: Path | None = None,
    state_out: Path | None = None,
    threads: int | None = None,
    durable: bool = True,
) -> None:
    """Fold the updates in ``slots`` into the model file ``current`` and write the model file ``out``.

    Each block of the new model goes straight into the new file, which is written aside and renamed; a new state of
    the aggregator is in place before. Memory taken is a few blocks per thread, whatever the model's size and the
    number of updates. Block boundaries depend on spec and number of updates only, and rows are in client order: the
    bits depend neither on the order of arrival, nor on slots, nor on threads.

    A user's class that wants whole models gets copies of the updates, since it may keep what it gets, and the
    arena's slots are used again. They take memory for all updates at once; such a class has them in memory anyway.

    Args:
        aggregator: what folds the updates.
        current: the model file of the current version; its names, shapes and dtypes are the arena's.
        arena: holds the updates.
        slots: one per update, in client order; ``metas`` and ``staleness`` belong to them.
        metas: what is known of each update.
        staleness: versions that each update is behind.
        out: the new model file.
        cohort: all clients of the run; None for those of ``metas``.
        trained: names of the tensors of parameters; None for all floating ones.
        state: the file of the aggregator's state; None, or where there is none yet, for the initial values.
        state_out: where its new state goes; needed, and written, where the aggregator has state.
        threads: None for the usable cores, as far as the model is large enough to employ them.
        durable: return when the files are on the disk; else a power failure, but no crash of the program, may
            take them.

    Raises:
        UserCodeError: if the aggregator fails, or returns something else than a finite model of the same spec; or
            if the state is of another aggregator.
        TransferError: if ``current`` or ``state`` can't be read.
        OSError: if a file cannot be written; nothing is left of ``out`` then.
    """
    if isinstance(aggregator, UserClassAggregator):
        models = by_client((arena.state(slot) for slot in slots), metas)
        spec = model_file.read_spec(current)
        model_file.write(aggregator.aggregate(spec, models, metas, staleness), out, spec, durable=durable)
        return
    old = model_file.mapped(current)
    layout = Layout.of(model_file.read_spec(current))
    plain = arena.spec.with_meaning([tensor.name for tensor in arena.spec.tensors], Meaning.VALUE)
    problem = difference(plain, layout.spec)
    if problem:
        raise UserCodeError(f"The global model does not fit the updates. {problem}")
    names = frozenset(tensor.name for tensor in plain.tensors) if trained is None else trained
    rows = StateLayout(aggregator.state, layout, names)
    fold = Fold(aggregator, layout, rows, arena.spec, names, len(slots))
    everyone = cohort or Cohort(len(metas), sum(max(0, meta.sample_size) for meta in metas))
    most = max(1, min(available_cores(), arena.layout.size // MODEL_BYTES_PER_THREAD))
    with _new_file(out, layout, durable) as write, _new_state(rows, state_out, durable) as write_state:
        fold.into(
            old,
            rows.mapped(state),
            lambda span: arena.block(slots, span.run.segment, span.begin, span.end),
            metas,
            staleness,
            everyone,
            write,
            write_state,
            threads or most,
        )


@contextlib.contextmanager
def _new_file(path: Path, layout: Layout, durable: bool) -> Iterator[Write]:
    """A file of ``layout`` that becomes ``path`` when the block ends well; its header is written."""
    with replacing(path, fsync=durable) as fd:
        write_all_at(fd, memoryview(layout.header), 0)
        yield lambda data, place: write_all_at(fd, data, place)


@contextlib.contextmanager
def _new_state(rows: StateLayout, path: Path | None, durable: bool) -> Iterator[Write]:
    if not rows.rows:
        yield lambda data, place: None
        return
    if path is None:
        raise UserCodeError("The aggregator keeps state, and no file is named for it.")
    with _new_file(path, rows.layout, durable) as write:
        yield write
