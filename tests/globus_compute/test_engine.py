"""GlobusComputeEngine with a LocalProvider: what the endpoints of users run."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from appfl_gc.hpc.endpoint.options import COMPUTE_ENGINE
from appfl_gc.runner.events import Outcome
from appfl_gc.sandbox.sandbox import Sandbox
from tests.globus_compute.sites import Site, at_sites, running
from tests.runner.conftest import model_bits, train
from tests.small_federation import SmallFederation


@pytest.fixture(scope="module")
def site(sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory, environment: None) -> Iterator[Site]:
    site = Site("engine", tmp_path_factory.mktemp("site"), engine=COMPUTE_ENGINE)
    with running(site, sandbox=sandbox):
        yield site


def test_two_clients_at_one_endpoint_end_with_the_bits_of_this_machine(
    federation: SmallFederation, site: Site, reference: bytes
) -> None:
    result = train(at_sites(federation, site, site))
    assert result.outcome is Outcome.FINISHED, result.error
    assert model_bits(result) == reference
