"""SZ3 and ZFP: compressors with a bounded error, in C++.

SZ3: Liang et al., "SZ3: a modular framework for composing prediction-based error-bounded lossy compressors",
2023. ZFP: Lindstrom, "Fixed-rate compressed floating-point arrays", 2014. Their decoders trust their input:
``decode`` is for bytes of this process's own making, and for the confined process of ``decoder_child``. No torch
here, so that such a process starts quickly.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from appfl_gc.payload.compression.installed import require
from appfl_gc.protocol.compression import SZ3

_SAMPLE = 1 << 14


def encode(name: str, numbers: Any, bound: float) -> memoryview:
    """``numbers`` (flat, float32 or float64, finite) with errors of about ``bound`` (absolute) at most.

    Raises:
        VersionError: if the package is not installed.
        OverflowError, RuntimeError, ValueError: if the compressor cannot.
    """
    if name == SZ3:
        algorithms = require("pysz").szAlgorithm
        # Weights are noise to SZ3's predictors, and without one it is faster; smooth tensors profit from them.
        candidates = [algorithms.NOPRED, algorithms.INTERP_LORENZO]
        sample = numbers[:_SAMPLE]
        best = min(candidates, key=lambda algorithm: len(_sz3(sample, bound, algorithm)))
        return _sz3(numbers, bound, best)
    return memoryview(require("zfpy").compress_numpy(numbers, tolerance=bound, write_header=True))


def _sz3(numbers: Any, bound: float, algorithm: int) -> memoryview:
    pysz = require("pysz")
    config = pysz.szConfig((len(numbers),))
    config.errorBoundMode = pysz.szErrorBoundMode.ABS
    config.absErrorBound = bound
    config.cmprAlgo = algorithm
    stream: memoryview = pysz.sz.compress(numbers, config)[0].data
    return stream


def decode(name: str, stream: Any, dtype: Any, count: int) -> Any:
    """The ``count`` numbers of ``dtype`` that ``stream`` (numpy, uint8) holds.

    Raises:
        VersionError: if the package is not installed.
        ValueError: if the stream says that it holds another number of them, or another dtype.
    """
    if name == SZ3:
        return require("pysz").sz.decompress(stream, dtype, (count,))[0]
    zfpy = require("zfpy")
    data = stream.tobytes()
    header = zfpy.header(data)
    if [size for size in (header["nx"], header["ny"], header["nz"], header["nw"]) if size] != [count]:
        raise ValueError("The ZFP stream holds another number of values.")
    numbers = zfpy.decompress_numpy(data)
    if numbers.dtype != np.dtype(dtype) or numbers.shape != (count,):
        raise ValueError("The ZFP stream holds values of another kind.")
    return numbers
