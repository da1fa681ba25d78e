"""Read arrays in the idx format of the MNIST files, packed with gzip or not."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from appfl_gc.protocol.errors import UserCodeError


def read_idx(path: Path) -> NDArray[np.uint8]:
    """Read an idx file of unsigned bytes.

    The format (Y. LeCun, "The MNIST database"): two zero bytes, a type code, the number of dimensions, each
    dimension as a big-endian 32-bit number, then the values in C order.

    Args:
        path: the file; a name that ends in ``.gz`` is unpacked.

    Returns:
        The array, read-only, not copied.

    Raises:
        UserCodeError: the file can't be read, is no idx file of bytes, or is too short or too long.
    """
    try:
        raw = path.read_bytes()
        content = gzip.decompress(raw) if path.suffix == ".gz" else raw
    except (OSError, EOFError, zlib.error) as error:
        raise UserCodeError(f"The data file {path} can't be read: {error}.") from error
    begin = 4 + 4 * content[3] if len(content) > 3 else 4
    if content[:3] != b"\0\0\x08" or len(content) < begin:
        raise _broken(path, "it doesn't begin as an idx file of bytes does")
    shape: tuple[int, ...] = struct.unpack(f">{content[3]}I", content[4:begin])
    if len(content) - begin != math.prod(shape):
        raise _broken(path, f"it holds {len(content) - begin} values for the shape {list(shape)}")
    return np.frombuffer(content, dtype=np.uint8, offset=begin).reshape(shape)


def _broken(path: Path, why: str) -> UserCodeError:
    return UserCodeError(
        f"The data file {path} is not a whole idx file: {why}.", "Delete it and copy or download it again."
    )
