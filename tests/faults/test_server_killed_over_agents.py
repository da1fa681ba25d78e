"""The server is killed while real agents work for it; the one that goes on gets what they have done, and no more."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from appfl_gc.sandbox.sandbox import Sandbox
from tests.faults.nursery import Break, Nursery
from tests.faults.proof import AtDeath, Bench, check_as_undisturbed, counted
from tests.faults.table import record
from tests.globus_compute.conftest import environment, sandbox  # noqa: F401  fixtures
from tests.globus_compute.sites import Site, at_sites, running

pytestmark = pytest.mark.chaos


@pytest.fixture(scope="module")
def bench(
    sandbox: Sandbox,  # noqa: F811
    environment: None,  # noqa: F811
    trainings: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Bench]:
    """Three rounds of two clients, each at an agent of its own."""
    directory = tmp_path_factory.mktemp("agents")
    sites = Site("one", directory), Site("two", directory)
    with running(*sites, sandbox=sandbox), Nursery(directory / "nursery") as nursery:
        federation = at_sites(counted(directory / "project", trainings, clients=2, rounds=3), *sites)
        yield Bench.make(nursery, trainings, federation, real_workers=True)


@pytest.mark.parametrize(
    ("kind", "number"),
    [
        ("hello", 2),
        ("dispatch", 4),
        ("task", 5),
        ("arrived", 3),
        ("policy", 15),
        ("step", 6),
        ("aggregated", 2),
    ],
)
def test_killed_and_gone_on_with(bench: Bench, kind: str, number: int) -> None:
    bench = bench.fresh(kind)
    assert bench.nursery.run(bench.job, Break("signal_at", (kind, number))).killed
    death = AtDeath.of(bench)
    assert bench.nursery.resume(bench.job).outcome == "finished"
    check_as_undisturbed(bench, death)
    # The sites have not noticed: not even what was under way is done again.
    assert set(bench.begun().values()) == {1}
    record("server SIGKILLed, sites at real agents", 1, "same bits", "nothing")
