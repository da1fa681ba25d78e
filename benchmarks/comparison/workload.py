"""The training that every algorithm does: a small network on real digits; each client has a few classes only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, cross_entropy

from appfl_gc.protocol.seeds import derive_seed
from appfl_gc.site.data import class_noniid_partition, load_mnist

PIXELS = 14 * 14
HIDDEN = 64
BATCH = 32
LEARNING_RATE = 0.1
STEPS = 100
"""Local steps of a dispatch where the scheduler does not say how many."""

State = Mapping[str, Tensor]


@dataclass(frozen=True)
class Share:
    """A client's digits: ``images`` [n, PIXELS], float32 from 0 to 1, and ``labels`` [n]."""

    images: Tensor
    labels: Tensor


class Workload:
    """Digits of 14 x 14 pixels dealt to ``clients`` by classes, and a network with one hidden layer.

    Args:
        clients: their names.
        seed: of the partition, the first model and all batches.
    """

    def __init__(self, clients: tuple[str, ...], seed: int) -> None:
        self._seed = seed
        train, test = load_mnist()
        parts = class_noniid_partition(
            train, len(clients), seed=derive_seed(seed, 0, "", "partition") % 2**32
        )
        self._shares = {
            client: Share(small(part.data_input), part.data_label)
            for client, part in zip(clients, parts, strict=True)
        }
        self._test = Share(small(test.data_input), test.data_label)
        self._network = network()

    @property
    def samples(self) -> int:
        """Training digits of all clients."""
        return sum(len(share.labels) for share in self._shares.values())

    def sample_size(self, client: str) -> int:
        """Training digits of ``client``."""
        return len(self._shares[client].labels)

    def first_model(self) -> dict[str, Tensor]:
        """The model that nobody has trained yet."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(self._seed, 0, "", "model"))
            return {name: tensor.detach() for name, tensor in network().state_dict().items()}

    def accuracy(self, state: State) -> float:
        """Share of the 1,000 test digits that the model ``state`` tells right, in per cent."""
        self._network.load_state_dict(state)
        with torch.no_grad():
            scores = self._network(self._test.images)
        return 100.0 * float((scores.argmax(dim=1) == self._test.labels).float().mean())

    def difference(
        self, client: str, dispatch: int, state: State, steps: int, rate: float
    ) -> dict[str, Tensor]:
        """``state`` minus what ``steps`` steps of SGD at ``rate`` make of it; batches follow client and dispatch."""
        share = self._shares[client]
        generator = torch.Generator().manual_seed(derive_seed(self._seed, dispatch, client, "train"))
        self._network.load_state_dict(state)
        weights = list(self._network.parameters())
        for _ in range(steps):
            rows = torch.randint(len(share.labels), (BATCH,), generator=generator)
            loss = cross_entropy(self._network(share.images[rows]), share.labels[rows])
            gradients = torch.autograd.grad(loss, weights)
            with torch.no_grad():
                for weight, gradient in zip(weights, gradients, strict=True):
                    weight.sub_(gradient, alpha=rate)
        return {name: state[name] - new.detach() for name, new in self._network.state_dict().items()}


def network() -> nn.Sequential:
    """13,258 parameters."""
    return nn.Sequential(nn.Linear(PIXELS, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 10))


def small(images: Tensor) -> Tensor:
    """Images [n, 1, 28, 28] as rows [n, PIXELS]: means of 2 x 2 pixels."""
    return avg_pool2d(images, 2).flatten(1).contiguous()
