"""The server is killed while real agents work for it; the one that goes on gets what they have done, and no more."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from appfl_gc.runner.journal import read_journal
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


def test_a_client_that_has_moved_to_another_endpoint_meanwhile(bench: Bench) -> None:
    """Its call, which the first endpoint has, is sent to the second one and not waited for at the first."""
    bench = bench.fresh("moved")
    assert bench.nursery.run(bench.job, Break("signal_at", ("task", 4))).killed
    clients = bench.nursery.inside(bench.job.clients)
    before = clients.read_text()
    first, second = dict.fromkeys(re.findall(r"endpoint_id: (\S+)", before))
    clients.write_text(before.replace(second, first))
    try:
        assert bench.nursery.resume(bench.job).outcome == "finished"
    finally:
        clients.write_text(before)
    assert (bench.run_dir / "model.safetensors").read_bytes() == bench.bits
    sent = [
        (record.kind, record.fields["endpoint"])
        for record in read_journal(bench.run_dir / "journal.jsonl")
        if record.fields.get("client") == "Client2" and record.fields.get("round") == 1
        if record.kind in ("dispatch", "retry")
    ]
    assert sent == [("dispatch", second), ("retry", first)]
    record(
        "a client moved to another endpoint while the server is dead", 1, "same bits", "its call, sent again"
    )
