"""The global model's versions: one file each, put once into each store that needs it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path

from appfl_gc.aggregator.base import Aggregator, Cohort
from appfl_gc.aggregator.reduction import aggregate
from appfl_gc.aggregator.user_class import UserClassAggregator
from appfl_gc.payload import checksum, coding, model_file
from appfl_gc.payload.arena import Arena
from appfl_gc.payload.codec import CODEC, Encoding
from appfl_gc.payload.encoded import Encoded, MappedFile
from appfl_gc.protocol.reference import Ref
from appfl_gc.protocol.schedule import UpdateMeta
from appfl_gc.runner.routes import Route
from appfl_gc.runner.run_directory import RunDirectory

READ_ONLY = 0o400


class GlobalModel:
    """Versions of the global model, from 0. A version goes when it is released and nothing needs it.

    Beside the newest version lies what its aggregator keeps for the next one, if that keeps anything.

    Args:
        directory: of the run.
        trained: names of the tensors that training changes: the floating parameters.
        version: the newest one, whose file is there.
        older: those before it that calls may carry, whose files are there too.
        released: those of them that no new call will carry.
    """

    def __init__(
        self,
        directory: RunDirectory,
        trained: frozenset[str],
        version: int = 0,
        older: Iterable[int] = (),
        released: Iterable[int] = (),
    ) -> None:
        self._directory = directory
        self.trained = trained
        self._refs: dict[int, dict[Route, Ref]] = {}
        self._inherited: dict[int, list[Callable[[], None]]] = {}
        self._files = {number: _file(directory, number) for number in (*older, version)}
        self._released: set[int] = set(released)
        self._lock = threading.Lock()
        self._turns: dict[Route, threading.Lock] = {}
        self.version = version

    @property
    def file(self) -> Path:
        """The file of the newest version."""
        return self._files[self.version]

    def path(self, version: int) -> Path:
        """The file of ``version``."""
        return self._files[version]

    def inherit(self, version: int, evict: Callable[[], None]) -> None:
        """An earlier server put ``version`` into a store; ``evict`` is done when the version goes."""
        self._inherited.setdefault(version, []).append(evict)

    def checksum(self) -> str:
        """Of the newest version's file, which is read once; for the journal."""
        return checksum.of_file(self.file)

    def bytes_of(self, version: int) -> int:
        """Bytes of the file of ``version``."""
        return self._files[version].stat().st_size

    def reference(self, version: int, route: Route, sent: Callable[[int], None]) -> Ref:
        """Where sites on ``route`` find ``version``; it is put there once, however many clients ask.

        Args:
            version: which.
            route: to whom. Calls for one route come one after the other, for several at the same time.
            sent: hears how many bytes are out.

        Raises:
            TransferError: if the store does not take it.
        """
        with self._lock:
            in_turn = self._turns.setdefault(route, threading.Lock())
        with in_turn:
            known = self._refs.get(version, {}).get(route)
            if known is None:
                known = route.stores.put(self._encoded(version, route), sent)
                with self._lock:
                    self._refs.setdefault(version, {})[route] = known
        return known

    def doubt(self, version: int, route: Route, reference: Ref) -> None:
        """Sites can't get ``version`` by ``reference``: the next call on ``route`` has it put there anew."""
        with self._lock:
            if self._refs.get(version, {}).get(route) != reference:
                return
            del self._refs[version][route]
            self._inherited.setdefault(version, []).append(partial(route.stores.evict, reference))

    def _encoded(self, version: int, route: Route) -> Encoded:
        file = self._files[version]
        payload: Encoded = MappedFile(file, CODEC)
        if route.model.compression is not None:
            payload = coding.compressed(
                Encoding(model_file.open(file)), route.model, self._directory.payloads
            )
        return coding.sealed(payload, route.model) if route.stores.choice(payload.size).remote else payload

    def advance(
        self,
        aggregator: Aggregator | UserClassAggregator,
        arena: Arena,
        slots: Sequence[int],
        metas: Sequence[UpdateMeta],
        staleness: Sequence[int],
        cohort: Cohort,
    ) -> int:
        """Fold the updates in ``slots`` (client order) into a new version and return its number."""
        new = self._directory.version_file(self.version + 1)
        aggregate(
            aggregator,
            self.file,
            arena,
            slots,
            metas,
            staleness,
            new,
            cohort=cohort,
            trained=self.trained,
            state=_state_of(self.file),
            state_out=_state_of(new),
        )
        # The model that users find has the same bytes: written over in place, it would change the run's own.
        new.chmod(READ_ONLY)
        self.version += 1
        self._files[self.version] = new
        return self.version

    def release(self, version: int, in_use: frozenset[int]) -> list[Callable[[], None]]:
        """No new call will carry ``version``: it goes, with those released before, once no call uses it.

        Returns what is to be done for that, which may take the time of a network.
        """
        if version not in self._files:
            return []
        self._released.add(version)
        actions: list[Callable[[], None]] = []
        if version != self.version:  # a call may still need the model, but nothing is folded into it again
            actions.append(partial(_state_of(self._files[version]).unlink, missing_ok=True))
        for gone in self._released - in_use - {self.version}:
            self._released.remove(gone)
            actions += self._evictions(gone)
            file = self._files.pop(gone)
            actions += [partial(path.unlink, missing_ok=True) for path in (file, _state_of(file))]
        return actions

    def release_all(self) -> list[Callable[[], None]]:
        """The run ends: what is to be done so that no store holds any version. The files stay."""
        return [action for version in {*self._refs, *self._inherited} for action in self._evictions(version)]

    def _evictions(self, version: int) -> list[Callable[[], None]]:
        with self._lock:
            references = self._refs.pop(version, {})
            inherited = self._inherited.pop(version, [])
        return [partial(route.stores.evict, reference) for route, reference in references.items()] + inherited


def _file(directory: RunDirectory, version: int) -> Path:
    return directory.version_file(version) if version else directory.initial


def _state_of(model: Path) -> Path:
    """Where the aggregator's state lies that belongs to the version in the file ``model``."""
    return model.with_suffix(".state.safetensors")
