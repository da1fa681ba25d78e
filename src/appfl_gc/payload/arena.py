"""The arena: accepted updates as rows of one address range with a fixed stride, mapped rather than copied."""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import stat
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import NoReturn

import numpy as np
import torch

from appfl_gc.payload import checksum, codec, gate
from appfl_gc.payload.codec import CODEC, Layout, Segment, torch_dtype
from appfl_gc.payload.coding import PLAIN, Coding, decode_into
from appfl_gc.payload.files import (
    PIECE,
    give_name,
    map_private,
    map_shared,
    nameless_file,
    open_no_link,
    replacing,
    write_chunks,
)
from appfl_gc.payload.inline_store import InlineStore
from appfl_gc.payload.receive import bytes_of, check_size, fetch_checked, own_descriptor
from appfl_gc.payload.store import Store, ignore
from appfl_gc.protocol.errors import AppflGcError, StorageError, TransferError, UpdateRefusedError
from appfl_gc.protocol.reference import Ref
from appfl_gc.protocol.update_spec import ITEM_SIZE, UpdateSpec
from appfl_gc.protocol.wire import WireError

_LONGEST_LOOK = 1 << 20
"""Bytes that are read of a payload of the wrong size to say what it is: the header of some thousand tensors."""
_MAP_FIXED = 0x10
_MAP_NORESERVE = 0x4000 if sys.platform == "linux" else 0


@dataclass(frozen=True)
class _Source:
    """The file under a row: a descriptor of ours, and its checksum where that is known."""

    fd: int
    checksum: str | None


class Arena:
    """Slots for updates of one spec.

    The arena reserves addresses for all slots, which costs no memory, and maps each update's file over its
    slot. Rows have the same layout, so that any stretch of K rows is one strided matrix without copying. Only
    files of this process's own user are mapped where they lie, since their owner could shorten a file under
    us; all else is fetched or decoded into a nameless file, which lies in the page cache and not in this
    process's own memory. Writing to a row changes this
    process's copy only. Safe for ``land`` from several threads on different slots.

    Args:
        spec: what every update must be.
        slots: how many updates fit.
        directory: where copies are made; None for the system's temporary directory.

    Raises:
        AppflGcError: if the address range cannot be reserved.
    """

    def __init__(self, spec: UpdateSpec, slots: int, directory: Path | None = None) -> None:
        self.layout = Layout.of(spec)
        self.slots = slots
        # Rows begin where the processor can map their files by huge pages.
        grain = PIECE if self.layout.size >= PIECE else mmap.PAGESIZE
        self._stride = -(-self.layout.size // grain) * grain
        self._directory = directory
        self._rows = _reserve(max(1, slots) * self._stride)
        self._address = ctypes.addressof(self._rows)
        self._landed: set[int] = set()
        self._sources: dict[int, _Source] = {}
        self._lock = threading.Lock()

    @property
    def spec(self) -> UpdateSpec:
        """What every update must be."""
        return self.layout.spec

    @property
    def landed(self) -> frozenset[int]:
        """Slots that hold an accepted update."""
        return frozenset(self._landed)

    def land(
        self,
        slot: int,
        ref: Ref,
        store: Store,
        how: Coding = PLAIN,
        arrived: Callable[[int], None] = ignore,
    ) -> None:
        """Bring a payload into a free slot and let it pass the gate. The payload itself stays in its store.

        Args:
            slot: where to.
            ref: which payload.
            store: where it lies.
            how: its sender encodes.
            arrived: hears how many of its bytes are here.

        Raises:
            TransferError: if the payload is gone or arrived with other bytes than were sent.
            UpdateRefusedError: if it does not fit the spec or is not finite; names tensor and element.
        """
        self._check_free(slot)
        try:
            check_size(ref, self.layout, how)
        except UpdateRefusedError as refusal:
            self._refuse_size(ref, store, refusal)
        with self._landing(slot):
            if ref.codec == CODEC:
                self._land_as_it_is(slot, ref, store, arrived)
            else:
                self._land_decoded(slot, ref, store, how, arrived)

    def keep(self, slot: int, path: Path) -> str:
        """Make the update in ``slot`` a file that outlives this process, as it arrived, whatever was done to its row.

        The file has the one layout of the spec, also where the update came compressed. Where it lies in a file of
        this process's user on the file system of ``path``, that file gets a second name; else it is copied. Nothing
        is synced: a power failure may take the file or damage it, which its checksum tells. Once for each update,
        by any thread.

        Args:
            slot: one that has landed, by ``land`` or ``land_kept``.
            path: in an existing directory; what stands there is replaced.

        Returns:
            the file's checksum.

        Raises:
            AppflGcError: if the slot holds no update, or was kept before.
            StorageError: if the file can't be written.
        """
        with self._lock:
            source = self._sources.pop(slot, None) if slot in self._landed else None
        if source is None:
            raise AppflGcError(f"Slot {slot} holds no update, or one that was kept before.")
        try:
            return self._keep(source, path)
        except OSError as error:
            raise StorageError(
                f"The accepted update can't be kept in {path}: {error.strerror or error}.", "Make room there."
            ) from None
        finally:
            os.close(source.fd)

    def _keep(self, source: _Source, path: Path) -> str:
        named = give_name(source.fd, path)
        if named and source.checksum is not None:
            return source.checksum
        running = checksum.Checksum()
        with map_private(source.fd, self.layout.size) as buffer:
            if named:
                running.update(buffer)
            else:
                with replacing(path, fsync=False) as fd:
                    write_chunks(fd, [buffer], running.update)
        return str(running)

    def land_kept(self, slot: int, path: Path, expected_checksum: str) -> None:
        """Bring an update that ``keep`` made a file into a free slot, through the same gate.

        Args:
            slot: where to.
            path: of the file, which stays.
            expected_checksum: what ``keep`` returned.

        Raises:
            TransferError: if the file is gone, of another user, or not as it was.
            UpdateRefusedError: if it does not fit the spec or is not finite.
        """
        self._check_free(slot)
        try:
            fd = open_no_link(path)
        except OSError as error:
            raise TransferError(f"The kept update {path} can't be read: {error.strerror}.") from None
        try:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid():
                raise TransferError(f"The kept update {path} is no file of this user.")
            if status.st_size != self.layout.size:
                raise TransferError(
                    f"The kept update {path} has {status.st_size:,} bytes; expected {self.layout.size:,}."
                )
            with self._landing(slot):
                self._map_file(slot, fd, expected_checksum)
                gate.Gate(self._row(slot), self.layout, expected_checksum).finish()
        finally:
            os.close(fd)

    def _check_free(self, slot: int) -> None:
        if slot not in range(self.slots) or slot in self._landed:
            raise AppflGcError(f"Slot {slot} of {self.slots} is not free.")

    @contextlib.contextmanager
    def _landing(self, slot: int) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self._clear(slot)
            raise
        with self._lock:
            self._landed.add(slot)

    def _land_as_it_is(self, slot: int, ref: Ref, store: Store, arrived: Callable[[int], None]) -> None:
        fd = own_descriptor(store, ref)
        if fd is not None:
            try:
                self._map_file(slot, fd, ref.checksum)
            finally:
                os.close(fd)
            watcher = gate.Gate(self._row(slot), self.layout, ref.checksum)
            for end in range(gate.BLOCK, ref.size + gate.BLOCK, gate.BLOCK):
                watcher.see(min(end, ref.size))
                arrived(min(end, ref.size))
            watcher.finish()
            return
        with nameless_file(ref.size, self._directory) as file:
            self._map_file(slot, file.fileno(), ref.checksum)
            watcher = gate.Gate(self._row(slot), self.layout, ref.checksum)
            fetch_checked(store, ref, file.fileno(), watcher, arrived)

    def _land_decoded(
        self, slot: int, ref: Ref, store: Store, how: Coding, arrived: Callable[[int], None]
    ) -> None:
        payload = bytes_of(store, ref, self._directory, arrived)
        with nameless_file(self.layout.size, self._directory, reserve=True) as file:
            row = map_shared(file.fileno(), self.layout.size)
            decode_into(ref.codec, payload, self.layout, row, how, self._directory)
            self._map_file(slot, file.fileno(), None)
        gate.Gate(self._row(slot), self.layout, None).finish()

    def free(self, slot: int) -> None:
        """Give a slot back. Views of it that are still around read zeros."""
        with self._lock:
            if slot in self._landed:
                self._landed.remove(slot)
                self._clear(slot)

    def close(self) -> None:
        """Give all slots back; may be called again."""
        for slot in list(self._landed):
            self.free(slot)

    def __enter__(self) -> Arena:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def block(self, slots: Sequence[int], run: Segment, begin: int, end: int) -> torch.Tensor:
        """Elements ``begin`` to ``end`` of ``run`` in each of ``slots``: [K, end - begin], in their order.

        A view where the slots are equally spaced, else a copy. Not to be written to.
        """
        missing = set(slots) - self._landed
        if missing:
            raise AppflGcError(f"Slot {min(missing)} holds no update.")
        first = self._flat(slots[0], run, begin, end)
        steps = {after - before for before, after in pairwise(slots)}
        if not steps:
            return first.unsqueeze(0)
        step = steps.pop()
        if steps or step < 0:
            return torch.stack([self._flat(slot, run, begin, end) for slot in slots])
        everything = torch.frombuffer(self._rows, dtype=first.dtype)
        stride = step * (self._stride // first.element_size())
        start = self._element(slots[0], run) + begin
        return torch.as_strided(everything, (len(slots), end - begin), (stride, 1), start)

    def state(self, slot: int) -> dict[str, torch.Tensor]:
        """The update in ``slot`` as tensors by name, views of its row."""
        if slot not in self._landed:
            raise AppflGcError(f"Slot {slot} holds no update.")
        return self.layout.views(self._row(slot))

    def _flat(self, slot: int, run: Segment, begin: int, end: int) -> torch.Tensor:
        size = ITEM_SIZE[run.dtype]
        offset = (self._element(slot, run) + begin) * size
        return torch.frombuffer(self._rows, dtype=torch_dtype(run.dtype), count=end - begin, offset=offset)

    def _element(self, slot: int, run: Segment) -> int:
        return (slot * self._stride + self.layout.start + run.offset) // ITEM_SIZE[run.dtype]

    def _row(self, slot: int) -> memoryview:
        begin = slot * self._stride
        return memoryview(self._rows).cast("B")[begin : begin + self.layout.size]

    def _map_file(self, slot: int, fd: int, checksum_of_file: str | None) -> None:
        flags = mmap.MAP_PRIVATE | _MAP_FIXED | _MAP_NORESERVE
        self._map_at(slot, self.layout.size, mmap.PROT_READ | mmap.PROT_WRITE, flags, fd)
        self._sources[slot] = _Source(os.dup(fd), checksum_of_file)

    def _clear(self, slot: int) -> None:
        source = self._sources.pop(slot, None)
        if source is not None:
            os.close(source.fd)
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_FIXED
        self._map_at(slot, self._stride, mmap.PROT_READ, flags, -1)

    def _map_at(self, slot: int, size: int, protection: int, flags: int, fd: int) -> None:
        address = self._address + slot * self._stride
        if _mmap()(address, size, protection, flags, fd, 0) != address:
            reason = os.strerror(ctypes.get_errno())
            raise TransferError(f"The update's {size:,} bytes cannot be mapped: {reason}.")

    def _refuse_size(self, ref: Ref, store: Store, refusal: UpdateRefusedError) -> NoReturn:
        """Refuse an update of another size, by the difference that its header tells, if it is soon read."""
        try:
            found = None if ref.codec != CODEC else codec._parse_header(_beginning(ref, store))
        except (WireError, OSError, TransferError):
            found = None
        problem = None if found is None else codec.difference(self.spec, found)
        raise refusal if problem is None else UpdateRefusedError(problem)


def _beginning(ref: Ref, store: Store) -> memoryview:
    """The first bytes of a payload, as they are; of one far away its header is not worth fetching."""
    fd = store.descriptor(ref)
    if fd is not None:
        try:
            return memoryview(os.pread(fd, _LONGEST_LOOK, 0))
        finally:
            os.close(fd)
    return memoryview(b"") if ref.scheme != InlineStore.scheme else bytes_of(store, ref)[:_LONGEST_LOOK]


def _reserve(size: int) -> ctypes.Array[ctypes.c_ubyte]:
    """Addresses from a multiple of ``PIECE`` that read as zeros; given back when the last view is gone."""
    try:
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        mapping = mmap.mmap(-1, size + PIECE, flags=flags, prot=mmap.PROT_READ)
    except (OSError, ValueError, OverflowError) as error:
        raise AppflGcError(
            f"Addresses for {size:,} bytes of updates cannot be reserved: {error}.",
            "Raise the limit on address space (`ulimit -v unlimited`); no memory is taken by this.",
        ) from None
    begin = np.frombuffer(mapping, dtype=np.uint8).ctypes.data
    rows = (ctypes.c_ubyte * size).from_address(-(-begin // PIECE) * PIECE)
    # The array does not own the addresses; this keeps them reserved as long as anybody uses the array.
    rows.owner = mapping  # type: ignore[attr-defined]
    return rows


def _mmap() -> ctypes._NamedFuncPointer:
    function = ctypes.CDLL(None, use_errno=True).mmap
    function.restype = ctypes.c_void_p
    function.argtypes = [
        ctypes.c_void_p,
        ctypes.c_size_t,
        ctypes.c_int,
        ctypes.c_int,
        ctypes.c_int,
        ctypes.c_long,
    ]
    return function
