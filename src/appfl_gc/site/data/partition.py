"""Deal the samples of one data set to clients: evenly, by classes, or by Dirichlet distributions.

Every function gives each sample to exactly one client, and is a pure function of its arguments: clients that
call it with the same data and seed, each at its own site, take shares that don't overlap.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset as TorchDataset

from appfl_gc.protocol.errors import UserCodeError
from appfl_gc.site.data.dataset import Dataset, as_tensors
from appfl_gc.site.data.picture import draw_partition

__all__ = ["Dataset", "class_noniid_partition", "dirichlet_noniid_partition", "iid_partition"]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

_SHARED_ARGUMENTS = frozenset({"num_of_classes", "Cmin", "Cmax", "alpha1", "alpha2"})
_log = logging.getLogger(__name__)


def iid_partition(
    train_dataset: TorchDataset[Any],
    num_clients: int,
    visualization: bool = False,
    output_dirname: str | None = None,
    output_filename: str | None = None,
    seed: int = 42,
    **kwargs: Any,
) -> list[Dataset]:
    """Deal the samples at random, evenly: sizes differ by one at most.

    Args:
        train_dataset: a map-style data set of pairs; see ``as_tensors`` for how it is read.
        num_clients: number of shares.
        visualization: draw clients x classes to ``output_dirname``/``output_filename``.
        output_dirname: folder of the picture; the working directory if None.
        output_filename: file name of the picture; ``partition.png`` if None.
        seed: seed of the deal.
        **kwargs: arguments of the other partitions, without effect; any other one is warned about.

    Returns:
        One data set for each client.

    Raises:
        UserCodeError: there are more clients than samples, or an argument has no meaning.
    """
    whole, rng = _begin(train_dataset, num_clients, seed, kwargs)
    owners = rng.permutation(len(whole)) % num_clients
    return _shares(whole, owners, num_clients, visualization, output_dirname, output_filename)


def class_noniid_partition(
    train_dataset: TorchDataset[Any],
    num_clients: int,
    visualization: bool = False,
    output_dirname: str | None = None,
    output_filename: str | None = None,
    seed: int = 42,
    num_of_classes: int = 10,
    Cmin: int | Mapping[Any, int] | None = None,
    Cmax: int | Mapping[Any, int] | None = None,
    **kwargs: Any,
) -> list[Dataset]:
    """Give each client samples of some classes only.

    Each client holds between ``Cmin`` and ``Cmax`` classes, drawn at random so that each class has a holder.
    The samples of a class are split among its holders in random proportions (log-normal weights).

    Args:
        train_dataset: a map-style data set of pairs whose labels are class numbers.
        num_clients: number of shares.
        visualization: draw clients x classes to ``output_dirname``/``output_filename``.
        output_dirname: folder of the picture; the working directory if None.
        output_filename: file name of the picture; ``partition.png`` if None.
        seed: seed of the deal.
        num_of_classes: number of classes, C. Where the labels name more, they count.
        Cmin: fewest classes of a client, or a mapping from the number of clients to it (key ``none``: any
            other number). Default: C / sqrt(num_clients) rounded, at least 2: of 10 classes 7 for 2 clients,
            5 for 4, 3 for 10, 2 for 25.
        Cmax: most classes of a client, in the same forms. Default: ``Cmin`` + 1, at most C.
        **kwargs: arguments of the other partitions, without effect; any other one is warned about.

    Returns:
        One data set for each client.

    Raises:
        UserCodeError: ``num_clients`` clients of at most ``Cmax`` classes can't hold every class, a client
            would be left without a sample, or an argument has no meaning.
    """
    whole, rng = _begin(train_dataset, num_clients, seed, kwargs)
    classes, labels = _classes(whole)
    total = max(num_of_classes, len(classes))
    fewest = _bound(Cmin, "Cmin", num_clients)
    most = _bound(Cmax, "Cmax", num_clients)
    if fewest is None:
        fewest = max(2, round(total / math.sqrt(num_clients)))
        fewest = fewest if most is None else min(fewest, most)
    most = fewest + 1 if most is None else most
    if fewest > most:
        raise UserCodeError(f"Cmin is {fewest}, more than Cmax, which is {most}.")
    if most * num_clients < len(classes):
        raise UserCodeError(
            f"{num_clients} clients of at most {most} classes each can't hold all {len(classes)} classes.",
            f"Set Cmax to {math.ceil(len(classes) / num_clients)} or more.",
        )
    held = _holders(min(fewest, len(classes)), min(most, len(classes)), num_clients, len(classes), rng)
    weights = np.where(held, rng.lognormal(size=held.shape), 0.0)
    available = np.bincount(labels, minlength=len(classes))
    counts = _split_columns(weights, available, least=held & (available >= held.sum(axis=0)))
    owners = _deal(labels, counts, rng)
    return _shares(whole, owners, num_clients, visualization, output_dirname, output_filename)


def dirichlet_noniid_partition(
    train_dataset: TorchDataset[Any],
    num_clients: int,
    visualization: bool = False,
    output_dirname: str | None = None,
    output_filename: str | None = None,
    alpha1: float = 8,
    alpha2: float = 0.5,
    seed: int = 42,
    **kwargs: Any,
) -> list[Dataset]:
    """Draw the clients' sizes from one Dirichlet distribution and each client's classes from another.

    Sizes follow Dir(``alpha1``) over the clients, the classes of a client Dir(``alpha2``) over the classes;
    the table of both is brought to the number of samples that each class really has by iterative proportional
    fitting (Deming and Stephan 1940), so that every sample is given. Small alphas make uneven shares.

    Args:
        train_dataset: a map-style data set of pairs whose labels are class numbers.
        num_clients: number of shares.
        visualization: draw clients x classes to ``output_dirname``/``output_filename``.
        output_dirname: folder of the picture; the working directory if None.
        output_filename: file name of the picture; ``partition.png`` if None.
        alpha1: concentration of the sizes, above 0.
        alpha2: concentration of the classes of a client, above 0.
        seed: seed of the deal.
        **kwargs: arguments of the other partitions, without effect; any other one is warned about.

    Returns:
        One data set for each client; none is empty.

    Raises:
        UserCodeError: there are more clients than samples, or an argument has no meaning.
    """
    whole, rng = _begin(train_dataset, num_clients, seed, kwargs)
    for name, alpha in (("alpha1", alpha1), ("alpha2", alpha2)):
        if not (alpha > 0 and math.isfinite(alpha)):
            raise UserCodeError(f"{name} is {alpha}; a Dirichlet distribution needs a number above 0.")
    classes, labels = _classes(whole)
    available = np.bincount(labels, minlength=len(classes))
    sizes = rng.dirichlet(np.full(num_clients, alpha1)) * len(whole)
    mixtures = rng.dirichlet(np.full(len(classes), alpha2), size=num_clients)
    table = _fit(mixtures + 1e-9, np.maximum(sizes, 1.0), available)
    counts = _without_empty_rows(_split_columns(table, available, least=np.zeros(table.shape, dtype=bool)))
    owners = _deal(labels, counts, rng)
    return _shares(whole, owners, num_clients, visualization, output_dirname, output_filename)


def _begin(
    dataset: TorchDataset[Any], num_clients: int, seed: int, others: Mapping[str, Any]
) -> tuple[Dataset, np.random.Generator]:
    """The data as tensors and the generator, after the checks that all partitions share."""
    for name in sorted(set(others) - _SHARED_ARGUMENTS):
        _log.warning("The partition ignores the argument %r: it has none of that name.", name)
    if num_clients < 1:
        raise UserCodeError(f"num_clients is {num_clients}; it must be 1 or more.")
    whole = as_tensors(dataset)
    if len(whole) < num_clients:
        raise UserCodeError(f"{len(whole)} samples can't be shared by {num_clients} clients.")
    return whole, np.random.default_rng(seed)


def _classes(whole: Dataset) -> tuple[NDArray[Any], Ints]:
    """The classes that occur, in order, and each sample's position among them."""
    if whole.data_label.numel() != len(whole):
        raise UserCodeError(
            f"A partition by classes needs one class number per sample; the labels have the shape "
            f"{list(whole.data_label.shape)}.",
            "Use iid_partition for labels of this kind.",
        )
    classes, labels = np.unique(whole.data_label.reshape(-1).numpy(), return_inverse=True)
    return classes, labels.astype(np.int64).reshape(-1)


def _bound(given: int | Mapping[Any, int] | None, name: str, num_clients: int) -> int | None:
    """``Cmin`` or ``Cmax`` for this number of clients, from its number or mapping; None for the default."""
    if isinstance(given, Mapping):
        keys = (num_clients, str(num_clients), "none")
        found = next((given[key] for key in keys if key in given), None)
    else:
        found = given
    if found is not None and found < 1:
        raise UserCodeError(f"{name} is {found}; a client holds 1 class or more.")
    return found


def _holders(
    fewest: int, most: int, num_clients: int, num_classes: int, rng: np.random.Generator
) -> NDArray[np.bool_]:
    """Which client holds which class, [clients, classes]: each row within the bounds, no column empty."""
    wanted = rng.integers(fewest, most, size=num_clients, endpoint=True)
    while wanted.sum() < num_classes:  # room for every class; the caller made sure that there is
        wanted[rng.choice(np.flatnonzero(wanted < most))] += 1
    held = np.zeros((num_clients, num_classes), dtype=bool)
    # Every class gets a first holder: places in turn, a client's k-th place only after all others' (k-1)-th.
    places = [(turn, client) for client in range(num_clients) for turn in range(int(wanted[client]))]
    order = rng.permutation(num_clients)
    places.sort(key=lambda place: (place[0], order[place[1]]))
    for class_, (_, client) in zip(rng.permutation(num_classes), places, strict=False):
        held[client, class_] = True
    for client in range(num_clients):
        missing = int(wanted[client] - held[client].sum())
        if missing > 0:
            held[client, rng.choice(np.flatnonzero(~held[client]), missing, replace=False)] = True
    return held


def _fit(table: Floats, rows: Floats, columns: Ints, rounds: int = 30) -> Floats:
    """Scale a positive table until its columns sum to ``columns`` and its rows, nearly, to ``rows``."""
    targets = rows * (columns.sum() / rows.sum())
    for _ in range(rounds):
        table = table * (targets / table.sum(axis=1))[:, None]
        table = table * (columns / table.sum(axis=0))
    return table


def _split_columns(weights: Floats, totals: Ints, least: NDArray[np.bool_]) -> Ints:
    """Whole numbers proportional to ``weights``, each column summing to its total (largest remainders).

    ``least`` marks the places that get one before the rest is split.
    """
    rest = totals - least.sum(axis=0)
    exact = weights / weights.sum(axis=0) * rest
    counts: Ints = np.floor(exact).astype(np.int64)
    ranks = np.argsort(np.argsort(counts - exact, axis=0, kind="stable"), axis=0, kind="stable")
    counts += ranks < rest - counts.sum(axis=0)
    counts += least
    return counts


def _without_empty_rows(counts: Ints) -> Ints:
    """The table with one sample moved to each empty row from the fullest one's largest class."""
    counts = counts.copy()
    for row in np.flatnonzero(counts.sum(axis=1) == 0):
        richest = int(counts.sum(axis=1).argmax())
        column = int(counts[richest].argmax())
        counts[richest, column] -= 1
        counts[row, column] += 1
    return counts


def _deal(labels: Ints, counts: Ints, rng: np.random.Generator) -> Ints:
    """The owner of each sample, so that client i gets ``counts[i, c]`` random samples of class c."""
    num_clients, num_classes = counts.shape
    order = rng.permutation(len(labels))
    by_class = order[np.argsort(labels[order], kind="stable")]
    owners = np.empty(len(labels), dtype=np.int64)
    owners[by_class] = np.repeat(np.tile(np.arange(num_clients), num_classes), counts.T.reshape(-1))
    return owners


def _shares(
    whole: Dataset,
    owners: Ints,
    num_clients: int,
    visualization: bool,
    output_dirname: str | None,
    output_filename: str | None,
) -> list[Dataset]:
    """One data set per client, its samples in their first order, and the picture if it is wanted."""
    sizes = np.bincount(owners, minlength=num_clients)
    if not sizes.all():
        raise UserCodeError(
            f"Client {int(sizes.argmin())} of {num_clients} would get no sample: its classes are too small.",
            "Use fewer clients, a larger Cmax or another seed.",
        )
    groups = np.split(np.argsort(owners, kind="stable"), np.cumsum(sizes)[:-1])
    if visualization:
        classes, labels = _classes(whole)
        counts = np.zeros((num_clients, len(classes)), dtype=np.int64)
        np.add.at(counts, (owners, labels), 1)
        draw_partition(counts, [str(name) for name in classes.tolist()], output_dirname, output_filename)
    return [whole.take(group) for group in groups]
