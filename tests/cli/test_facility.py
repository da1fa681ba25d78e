"""`appfl-gc facility`: what is printed can be pasted."""

from __future__ import annotations

import pytest
import yaml
from click.testing import CliRunner, Result

from appfl_gc.cli.main import cli
from appfl_gc.hpc.facility import all_facilities, facility_names

SHARED = [endpoint.name for facility in all_facilities() for endpoint in facility.shared]


def facility(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["facility", *arguments])


def test_list_names_them_all_and_says_where_it_was_tried() -> None:
    told = facility("list").stdout
    for name in (*facility_names(), *SHARED):
        assert name in told
    assert told.count("(not run there)") == len(facility_names()) - 1


@pytest.mark.parametrize("name", SHARED)
def test_the_block_of_a_facilitys_endpoint(name: str) -> None:
    told = facility("show", name).stdout
    (client,) = yaml.safe_load(told)["clients"]
    config = client["user_endpoint_config"]
    assert config["max_workers_per_node"] == 1
    assert isinstance(config["walltime"], str)
    assert config["scheduler_options"].startswith("#PBS -l filesystems=")
    for words in (
        "pip install .",
        "parsl==2026.2.23",
        "daemon.pid",
        "submit_scripts",
        "not run there",
        "Source:",
    ):
        assert words in told, words


@pytest.mark.parametrize("name", facility_names())
def test_the_defaults_of_a_facility(name: str) -> None:
    done = facility("show", name)
    assert done.exit_code == 0, done.stderr
    assert isinstance(yaml.safe_load(done.stdout).get("walltime", ""), str)


def test_an_unknown_name_lists_those_there_are() -> None:
    done = facility("show", "polaris-map")
    assert done.exit_code == 2
    assert "polaris-mep" in done.stderr
    assert "aurora" in done.stderr
