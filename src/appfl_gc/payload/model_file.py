"""The global model of one version as one file in codec format."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import torch

from appfl_gc.payload import codec
from appfl_gc.payload.files import map_private, replacing, write_chunks
from appfl_gc.protocol.errors import TransferError, UpdateRefusedError
from appfl_gc.protocol.update_spec import UpdateSpec


def write(
    state: Mapping[str, torch.Tensor], path: Path, spec: UpdateSpec | None = None, *, durable: bool = True
) -> None:
    """Write ``state`` to ``path``: aside, to the disk if ``durable``, then renamed.

    Raises:
        OSError: if the file cannot be written; ``path`` is then as it was.
        UserCodeError, UpdateRefusedError: as ``codec.Encoding``.
    """
    encoding = codec.Encoding(state, spec)
    with replacing(path, fsync=durable) as fd:
        write_chunks(fd, encoding.chunks())


def open(path: Path) -> dict[str, torch.Tensor]:
    """The model's tensors, mapped: read when used. Writing to them changes this process's copy only.

    Raises:
        TransferError: if the file cannot be read or is not of this format.
    """
    buffer = mapped(path)
    return codec.decode(buffer, _spec(buffer, path))


def read_spec(path: Path) -> UpdateSpec:
    """The spec of a model file; raises ``TransferError`` as ``open``."""
    return _spec(mapped(path), path)


def mapped(path: Path) -> memoryview:
    """The file's bytes, mapped privately; raises ``TransferError``."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return map_private(fd, os.fstat(fd).st_size)
        finally:
            os.close(fd)
    except (OSError, ValueError) as error:
        raise TransferError(f"The model file {path} cannot be read: {error}.") from None


def _spec(buffer: memoryview, path: Path) -> UpdateSpec:
    try:
        return codec.read_spec(buffer)
    except UpdateRefusedError as error:
        raise TransferError(f"{path} is not a model file of this version. {error.message}") from None
