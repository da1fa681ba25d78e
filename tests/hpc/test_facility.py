"""Facility data: complete, with its sources, and found by UUID."""

from __future__ import annotations

import uuid

import pytest

from appfl_gc.hpc.facility import (
    all_facilities,
    facility_names,
    facility_of_endpoint,
    load_facility,
    shared_endpoint,
)
from appfl_gc.protocol.errors import UsageError


def test_the_facilities_that_the_tutorial_names_are_there() -> None:
    assert {"polaris", "aurora", "delta", "pbs", "slurm", "local"} <= set(facility_names())


@pytest.mark.parametrize("name", facility_names())
def test_a_facility_says_where_its_facts_come_from(name: str) -> None:
    facility = load_facility(name)
    assert facility.title
    if name != "local":
        assert facility.sources
        assert not facility.run_there  # nobody has run this package there
    for source in facility.sources:
        assert source.url.startswith("https://")
        assert len(source.read) == len("2026-11-22")


def test_an_endpoint_of_a_facility_is_found_by_its_uuid() -> None:
    found = facility_of_endpoint("9A947BA5-f537-4681-acf3-cc66485aadec")
    assert found is not None
    facility, endpoint = found
    assert (facility.name, endpoint.name) == ("polaris", "polaris-mep")
    assert "daemon.pid" in endpoint.stop
    assert "submit_scripts" in endpoint.job_logs
    assert shared_endpoint("polaris-mep") == found
    assert facility_of_endpoint(str(uuid.uuid4())) is None


def test_the_ready_block_keeps_one_task_a_node() -> None:
    for facility in all_facilities():
        for endpoint in facility.shared:
            assert endpoint.config["max_workers_per_node"] == 1
            assert {"account", "queue", "walltime", "worker_init", "max_idletime"} <= set(endpoint.config)


def test_an_unknown_facility_lists_those_there_are() -> None:
    with pytest.raises(UsageError, match="no facility `polarsi`") as caught:
        load_facility("polarsi")
    assert "polaris" in caught.value.hint
    with pytest.raises(UsageError):
        load_facility("../knobs")
