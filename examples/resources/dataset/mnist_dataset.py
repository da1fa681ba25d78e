"""Each client's share of MNIST.

The text of this file is sent to every site and run there, so it imports only what a site has: the standard
library, torch and appfl_gc.
"""

from __future__ import annotations

from typing import Any

from appfl_gc.site.data import (
    Dataset,
    class_noniid_partition,
    dirichlet_noniid_partition,
    iid_partition,
    load_mnist,
)

PARTITIONS = {
    "iid": iid_partition,
    "class_noniid": class_noniid_partition,
    "dirichlet_noniid": dirichlet_noniid_partition,
    "dirichlet_nomiid": dirichlet_noniid_partition,  # as older configuration files spell it
}


def get_mnist(
    num_clients: int,
    client_id: int,
    partition_strategy: str = "class_noniid",
    visualization: bool = False,
    output_dirname: str = "./output",
    output_filename: str = "partition.png",
    seed: int = 42,
    root: str | None = None,
    download: bool = False,
    **kwargs: Any,
) -> tuple[Dataset, Dataset]:
    """One client's training images, and the whole test set for its validation.

    Args:
        num_clients: number of shares, the same for all clients.
        client_id: which share, 0 to ``num_clients`` - 1.
        partition_strategy: ``iid``, ``class_noniid`` or ``dirichlet_noniid``.
        visualization: draw who holds what to ``output_dirname``/``output_filename``, at the site.
        output_dirname: folder of the picture.
        output_filename: file name of the picture.
        seed: seed of the partition, the same for all clients.
        root: folder with MNIST's files; without it $APPFL_GC_DATA, else 5,000 digits that need no network.
        download: fetch the full MNIST (needs torchvision and a network).
        **kwargs: further arguments of the partition: ``Cmin``, ``Cmax``, ``alpha1``, ``alpha2``.
    """
    if partition_strategy not in PARTITIONS:
        raise ValueError(
            f"partition_strategy is {partition_strategy!r}; it must be one of {', '.join(PARTITIONS)}."
        )
    if not 0 <= client_id < num_clients:
        raise ValueError(f"client_id is {client_id}; with num_clients: {num_clients} it counts from 0.")
    train, test = load_mnist(root=root, download=download)
    shares = PARTITIONS[partition_strategy](
        train,
        num_clients,
        visualization=visualization,
        output_dirname=output_dirname,
        output_filename=output_filename,
        seed=seed,
        **kwargs,
    )
    return shares[client_id], test


def get_mnist_testset(root: str | None = None, download: bool = False) -> Dataset:
    """The test set, for validation at the server; ``root`` and ``download`` as in ``get_mnist``."""
    _, test = load_mnist(root=root, download=download)
    return test
