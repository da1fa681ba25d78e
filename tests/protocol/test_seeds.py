"""Seeds depend on what is computed and on nothing else."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from appfl_gc.protocol.seeds import derive_seed

arguments = st.tuples(st.integers(0, 2**63), st.integers(0, 1000), st.text(max_size=8), st.text(max_size=8))


@given(arguments, arguments)
def test_equal_arguments_and_only_they_give_equal_seeds(
    a: tuple[int, int, str, str], b: tuple[int, int, str, str]
) -> None:
    assert (derive_seed(*a) == derive_seed(*b)) == (a == b)
    assert 0 <= derive_seed(*a) < 2**63


def test_seeds_never_change_between_releases() -> None:
    assert derive_seed(42, 1, "Client1", "train") == 6195407243550755477
