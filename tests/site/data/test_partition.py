"""The partitions: every sample to one client, seeded, and as uneven as asked."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from appfl_gc.protocol.errors import UserCodeError
from appfl_gc.site.data import (
    Dataset,
    class_noniid_partition,
    dirichlet_noniid_partition,
    iid_partition,
)

PARTITIONS = {
    "iid": iid_partition,
    "class_noniid": class_noniid_partition,
    "dirichlet_noniid": dirichlet_noniid_partition,
}

labels_of_samples = st.lists(st.integers(0, 6), min_size=1, max_size=120)


def numbered(labels: list[int] | np.ndarray) -> Dataset:
    """A data set whose inputs are the samples' numbers, so that a share says which samples it has."""
    return Dataset(torch.arange(len(labels)), torch.as_tensor(np.asarray(labels)))


def ten_classes(per_class: int) -> Dataset:
    return numbered(np.repeat(np.arange(10), per_class))


def class_counts(shares: list[Dataset], classes: int = 10) -> np.ndarray:
    return np.stack([np.bincount(share.data_label.numpy(), minlength=classes) for share in shares])


@pytest.mark.parametrize("strategy", PARTITIONS)
@given(labels=labels_of_samples, num_clients=st.integers(1, 12), seed=st.integers(0, 2**31))
@settings(max_examples=60, deadline=None)
def test_every_sample_goes_to_exactly_one_client(
    strategy: str, labels: list[int], num_clients: int, seed: int
) -> None:
    whole = numbered(labels)
    try:
        shares = PARTITIONS[strategy](whole, num_clients, seed=seed)
    except UserCodeError:
        # Few samples may not do for classes; the other two need no more than one for each client.
        assert strategy == "class_noniid" or num_clients > len(labels)
        assume(False)
    assert len(shares) == num_clients
    assert all(len(share) > 0 for share in shares)
    dealt = torch.cat([share.data_input for share in shares])
    assert sorted(dealt.tolist()) == list(range(len(labels)))
    for share in shares:
        assert torch.equal(share.data_label, whole.data_label[share.data_input])


@pytest.mark.parametrize("strategy", PARTITIONS)
def test_the_seed_decides_the_shares_and_the_global_generators_are_left_alone(strategy: str) -> None:
    def deal(seed: int) -> list[list[int]]:
        return [share.data_input.tolist() for share in PARTITIONS[strategy](ten_classes(30), 4, seed=seed)]

    np.random.seed(1)
    torch.manual_seed(1)
    expected = np.random.rand(), torch.rand(1).item()
    np.random.seed(1)
    torch.manual_seed(1)
    first = deal(7)
    assert (np.random.rand(), torch.rand(1).item()) == expected
    np.random.seed(2)
    assert deal(7) == first
    assert deal(8) != first


def test_iid_shares_are_even_and_mixed_although_the_data_are_sorted() -> None:
    shares = iid_partition(ten_classes(101), 4)
    assert sorted(len(share) for share in shares) == [252, 252, 253, 253]
    assert (class_counts(shares) > 10).all()


@given(
    num_clients=st.integers(1, 25),
    bounds=st.tuples(st.integers(1, 10), st.integers(1, 10)),
    seed=st.integers(0, 99),
)
@settings(max_examples=60, deadline=None)
def test_each_client_holds_between_cmin_and_cmax_classes(
    num_clients: int, bounds: tuple[int, int], seed: int
) -> None:
    fewest, most = sorted(bounds)
    assume(most * num_clients >= 10)
    shares = class_noniid_partition(ten_classes(40), num_clients, seed=seed, Cmin=fewest, Cmax=most)
    held = (class_counts(shares) > 0).sum(axis=1)
    assert held.min() >= fewest
    assert held.max() <= most


@pytest.mark.parametrize(("num_clients", "fewest"), [(1, 10), (2, 7), (4, 5), (10, 3), (25, 2)])
def test_the_default_number_of_classes_shrinks_with_the_number_of_clients(
    num_clients: int, fewest: int
) -> None:
    held = (class_counts(class_noniid_partition(ten_classes(200), num_clients)) > 0).sum(axis=1)
    assert held.min() >= fewest
    assert held.max() <= min(10, fewest + 1)


def test_cmin_and_cmax_may_depend_on_the_number_of_clients() -> None:
    bounds = {"3": 4, "none": 9}  # keys as JSON brings them
    shares = class_noniid_partition(ten_classes(50), 3, Cmin=bounds, Cmax=bounds)
    assert (class_counts(shares) > 0).sum(axis=1).tolist() == [4, 4, 4]
    shares = class_noniid_partition(ten_classes(50), 2, Cmin=bounds, Cmax=bounds)
    assert (class_counts(shares) > 0).sum(axis=1).tolist() == [9, 9]


def test_dirichlet_sizes_follow_alpha1() -> None:
    even = [len(share) for share in dirichlet_noniid_partition(ten_classes(400), 8, alpha1=1e6)]
    assert max(even) - min(even) <= 20
    uneven = [len(share) for share in dirichlet_noniid_partition(ten_classes(400), 8, alpha1=0.5)]
    assert max(uneven) > 3 * min(uneven)


def test_dirichlet_classes_follow_alpha2() -> None:
    def largest_class(alpha2: float) -> float:
        counts = class_counts(dirichlet_noniid_partition(ten_classes(400), 8, alpha1=100, alpha2=alpha2))
        return float((counts.max(axis=1) / counts.sum(axis=1)).mean())

    assert largest_class(1e4) < 0.12
    assert largest_class(0.1) > 0.4


@pytest.mark.parametrize("strategy", ["class_noniid", "dirichlet_noniid"])
def test_the_samples_of_a_class_are_dealt_at_random(strategy: str) -> None:
    shares = PARTITIONS[strategy](numbered(np.zeros(100, dtype=np.int64)), 2)
    first, second = (share.data_input for share in shares)
    assert first.min() < second.max()
    assert second.min() < first.max()


def test_ten_thousand_clients_are_served() -> None:
    labels = np.random.default_rng(0).integers(0, 10, 60_000)
    for partition in PARTITIONS.values():
        shares = partition(numbered(labels), 10_000)
        assert sum(len(share) for share in shares) == 60_000


@pytest.mark.parametrize("strategy", PARTITIONS)
def test_no_single_item_is_read(strategy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("an item was read by itself")

    monkeypatch.setattr(Dataset, "__getitem__", refuse)
    monkeypatch.setattr(torch.Tensor, "tolist", refuse)
    assert len(PARTITIONS[strategy](ten_classes(50), 5)) == 5


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: iid_partition(ten_classes(1), 11), "10 samples can't be shared by 11 clients"),
        (lambda: iid_partition(ten_classes(1), 0), "num_clients is 0"),
        (lambda: class_noniid_partition(ten_classes(9), 2, Cmin=1, Cmax=3), "can't hold all 10 classes"),
        (lambda: class_noniid_partition(ten_classes(9), 2, Cmin=4, Cmax=3), "Cmin is 4, more than Cmax"),
        (lambda: class_noniid_partition(ten_classes(9), 2, Cmin=0), "Cmin is 0"),
        (lambda: dirichlet_noniid_partition(ten_classes(9), 2, alpha2=0), "alpha2 is 0"),
        (
            lambda: class_noniid_partition(Dataset(torch.zeros(4, 2), torch.zeros(4, 2)), 2),
            "one class number per sample",
        ),
    ],
)
def test_what_can_not_be_dealt_is_an_error_that_says_why(call: object, words: str) -> None:
    with pytest.raises(UserCodeError, match=words):
        call()  # type: ignore[operator]


def test_a_misspelt_argument_is_warned_about(caplog: pytest.LogCaptureFixture) -> None:
    iid_partition(ten_classes(2), 2, alpha1=3)
    assert not caplog.records
    dirichlet_noniid_partition(ten_classes(2), 2, alpa1=3)
    assert "'alpa1'" in caplog.text
