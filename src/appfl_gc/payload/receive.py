"""Payloads out of a store: verified, mapped, and decoded."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import torch

from appfl_gc.payload import coding, gate
from appfl_gc.payload.checksum import Checksum, verify
from appfl_gc.payload.codec import CODEC, Layout, check_header
from appfl_gc.payload.coding import Coding
from appfl_gc.payload.files import map_private, map_shared, nameless_file
from appfl_gc.payload.store import Store, ignore
from appfl_gc.protocol.errors import TransferError, UpdateRefusedError
from appfl_gc.protocol.reference import Ref
from appfl_gc.protocol.update_spec import UpdateSpec


def bytes_of(
    store: Store, ref: Ref, directory: Path | None = None, arrived: Callable[[int], None] = ignore
) -> memoryview:
    """A payload's bytes, mapped, with size and checksum verified.

    Writing to them changes this process's copy only; views of them stay valid as long as they are used.

    Args:
        store: where the payload lies.
        ref: which.
        directory: where a copy is made if the payload lies in no file; None for the temporary directory.
        arrived: hears how many bytes are here.

    Raises:
        TransferError: if the payload is gone, or differs from what the reference says.
    """
    running = Checksum.like(ref.checksum)
    fd = own_descriptor(store, ref)
    if fd is not None:
        try:
            buffer = _map(fd, ref.size)
        finally:
            os.close(fd)
        running.update(buffer)
    else:
        with nameless_file(ref.size, directory) as file:
            buffer = _map(file.fileno(), ref.size)
            seen = 0

            def look(done: int) -> None:
                nonlocal seen
                running.update(buffer[seen:done])
                seen = done
                arrived(done)

            store.fetch(ref, file.fileno(), look)
    verify(running, ref.checksum, "A payload")
    return buffer


def own_descriptor(store: Store, ref: Ref) -> int | None:
    """``Store.descriptor`` where the file belongs to this process's user; None where it has to be copied.

    The owner of a file can shorten it while it is mapped, which would end this process.
    """
    fd = store.descriptor(ref)
    if fd is None or os.fstat(fd).st_uid == os.geteuid():
        return fd
    os.close(fd)
    return None


def state_of(
    store: Store,
    ref: Ref,
    spec: UpdateSpec,
    how: Coding,
    directory: Path | None = None,
    arrived: Callable[[int], None] = ignore,
) -> dict[str, torch.Tensor]:
    """The tensors of a payload, as views of mapped memory. Nothing is executed.

    Raises:
        TransferError: as ``bytes_of``.
        UpdateRefusedError: if the payload does not hold what ``spec`` says.
    """
    layout = Layout.of(spec)
    check_size(ref, layout, how)
    payload = bytes_of(store, ref, directory, arrived)
    if ref.codec == CODEC:
        check_header(payload, layout)
        return layout.views(payload)
    with nameless_file(layout.size, directory, reserve=True) as file:
        out = map_shared(file.fileno(), layout.size)
        coding.decode_into(ref.codec, payload, layout, out, how, directory)
    return layout.views(out)


def fetch_checked(
    store: Store, ref: Ref, file: int, watcher: gate.Gate, arrived: Callable[[int], None]
) -> None:
    """Fetch a payload in the standard layout while ``watcher`` looks at what has arrived.

    Raises:
        TransferError, UpdateRefusedError: as ``Store.fetch`` and ``Gate.finish`` do.
    """

    def look(done: int) -> None:
        watcher.see(done)
        arrived(done)

    store.fetch(ref, file, look)
    watcher.finish()


def check_size(ref: Ref, layout: Layout, how: Coding) -> None:
    """Refuse, before any memory is taken, what ``layout`` can't explain.

    Raises:
        UpdateRefusedError: if codec or size are not possible.
    """
    coding.check_codec(ref.codec, how)
    most = layout.size if ref.codec == CODEC else coding.largest(layout, how)
    if ref.size > most or (ref.codec == CODEC and ref.size != layout.size):
        raise UpdateRefusedError(f"The payload has {ref.size:,} bytes; expected {most:,}.")


def _map(fd: int, size: int) -> memoryview:
    try:
        return map_private(fd, size)
    except (OSError, ValueError) as error:
        raise TransferError(f"A payload of {size:,} bytes cannot be mapped: {error}.") from None
