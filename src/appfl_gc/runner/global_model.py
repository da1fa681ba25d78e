"""The global model: one file a version, in the payload codec's format, and where it lies for the sites."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from appfl_gc.aggregator.base import Aggregator
from appfl_gc.aggregator.reduction import aggregate
from appfl_gc.aggregator.user_class import UserClassAggregator
from appfl_gc.payload import model_file
from appfl_gc.payload.arena import Arena
from appfl_gc.payload.codec import Encoding
from appfl_gc.payload.stores import FileStore, Stores
from appfl_gc.protocol.reference import Ref
from appfl_gc.protocol.schedule import UpdateMeta
from appfl_gc.runner.run_directory import RunDirectory


class GlobalModel:
    """Versions of the global model, from 0. A version goes when it is released and nothing needs it."""

    def __init__(self, directory: RunDirectory, stores: Stores, initial: Path) -> None:
        self._directory = directory
        self._stores = stores
        self._refs: dict[int, Ref] = {}
        self._files = {0: initial}
        self._released: set[int] = set()
        self.version = 0

    @property
    def file(self) -> Path:
        """The file of the newest version."""
        return self._files[self.version]

    def reference(self, version: int) -> Ref:
        """Where sites find ``version``; it is put into a store once, however many clients ask."""
        if version not in self._refs:
            self._refs[version] = self._put(self._files[version])
        return self._refs[version]

    def _put(self, file: Path) -> Ref:
        large = self._stores.large
        if isinstance(large, FileStore) and file.stat().st_size > self._stores.inline.limit:
            return large.adopt(file)
        return self._stores.put(Encoding(model_file.open(file)))

    def advance(
        self,
        aggregator: Aggregator | UserClassAggregator,
        arena: Arena,
        slots: Sequence[int],
        metas: Sequence[UpdateMeta],
        staleness: Sequence[int],
    ) -> int:
        """Fold the updates in ``slots`` (client order) into a new version and return its number."""
        new = self._directory.payloads / f"global-{self.version + 1}.safetensors"
        aggregate(aggregator, self.file, arena, slots, metas, staleness, new)
        self.version += 1
        self._files[self.version] = new
        return self.version

    def release(self, version: int, in_use: frozenset[int]) -> None:
        """No new call will carry ``version``: it goes, with those released before, once no call uses it."""
        self._released.add(version)
        for version in self._released - in_use - {self.version}:
            self._released.remove(version)
            reference = self._refs.pop(version, None)
            if reference is not None:
                self._stores.evict(reference)
            self._files.pop(version).unlink(missing_ok=True)
