"""Options: whatever could end up in a job script or in YAML as something else is refused."""

from __future__ import annotations

import re
import uuid
from typing import Any

import pytest

from appfl_gc.hpc.endpoint.options import EndpointOptions, check_name
from appfl_gc.hpc.knobs import KNOBS
from appfl_gc.protocol.errors import UsageError


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("account", "abc\n#PBS -q other"),
        ("account", "abc; rm -rf ~"),
        ("account", "abc\n"),
        ("queue", "$(id)"),
        ("queue", ""),
        ("walltime", 36000),
        ("walltime", "10:00"),
        ("walltime", "01:00:00\n"),
        ("scheduler_options", "#PBS -l x\nrm -rf ~"),
        ("scheduler_options", "rm -rf ~"),
        ("select_options", "ngpus=4\n#PBS -A other"),
        ("launcher_overrides", "--ppn 1; id"),
        ("worker_init", "echo \x1b[31m"),
        ("worker_init", "x" * 5000),
        ("interface", "bond0 && id"),
        ("nodes_per_block", 0),
        ("max_blocks", True),
        ("init_blocks", -1),
        ("accelerators", 0),
        ("accelerators", ["0", "a b"]),
    ],
)
def test_a_value_that_could_be_something_else_is_refused(name: str, value: Any) -> None:
    with pytest.raises(UsageError, match=name) as caught:
        EndpointOptions(settings={name: value}).check()
    assert "\x1b" not in str(caught.value)
    schema = KNOBS[name].schema
    if isinstance(value, str) and "pattern" in schema:
        assert re.search(str(schema["pattern"]), value) is None  # a submitter is refused too


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("account", "datascience"),
        ("walltime", "36:00:00"),
        ("scheduler_options", "#PBS -l filesystems=home:eagle\n#PBS -k doe\n"),
        ("scheduler_options", ""),
        ("select_options", "ngpus=4"),
        ("launcher_overrides", "--depth=64 --ppn 1"),
        ("worker_init", "module load conda\nif true; then\n\techo 'ü'\nfi"),
        ("accelerators", 4),
        ("accelerators", ["0.0", "0.1"]),
    ],
)
def test_what_facilities_need_is_accepted(name: str, value: Any) -> None:
    EndpointOptions(settings={name: value}).check()
    pattern = KNOBS[name].schema.get("pattern")
    assert pattern is None or re.search(str(pattern), value)


def test_long_directives_are_matched_at_once() -> None:
    """The agent matches a submitter's text too: no pattern may take exponential time."""
    with pytest.raises(UsageError):
        EndpointOptions(settings={"scheduler_options": "#PBS " * 700 + "\nx"}).check()


@pytest.mark.parametrize(
    "options",
    [
        EndpointOptions(settings={"acount": "x"}),
        EndpointOptions(locked=frozenset({"nothing"})),
        EndpointOptions(engine="HighThroughputEngine"),
        EndpointOptions(display_name="two\nlines"),
        EndpointOptions(heartbeat_seconds=1),
        EndpointOptions(endpoint_id="not-a-uuid"),
        EndpointOptions(allowed_functions=("not-a-uuid",)),
        EndpointOptions(environment={"A B": "x"}),
        EndpointOptions(environment={"LINES": "a\nb"}),
        EndpointOptions(environment={"AWS_SECRET_ACCESS_KEY": "hidden"}),
        EndpointOptions(identities={"alice@uni.edu": "alice"}),
    ],
)
def test_other_options_that_cannot_be_used(options: EndpointOptions) -> None:
    with pytest.raises(UsageError) as caught:
        options.check()
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize(
    "line",
    [
        "export AWS_SECRET_ACCESS_KEY=hidden",
        "TOKEN='hidden' run",
        'export HTTPS_PROXY="http://me:hidden@proxy:3128"',
    ],
)
def test_a_secret_in_a_script_is_refused(line: str) -> None:
    for options in (EndpointOptions(settings={"worker_init": line}), EndpointOptions(prelude=line)):
        with pytest.raises(UsageError, match="looks like a secret") as caught:
            options.check()
        assert "hidden" not in str(caught.value)


@pytest.mark.parametrize(
    "line",
    [
        "export TOKENIZERS_PARALLELISM=false",
        "export API_TOKEN=$(cat ~/.token)",
        "export GOOGLE_APPLICATION_CREDENTIALS=/home/me/key.json",
        'export HTTP_PROXY=""; export http_proxy="http://proxy:3128"',
        'export API_TOKEN=""',
    ],
)
def test_what_only_looks_like_one_is_accepted(line: str) -> None:
    EndpointOptions(settings={"worker_init": line}, prelude=line).check()


def test_names() -> None:
    assert check_name("site_1.gpu-a") == "site_1.gpu-a"
    for name in ("", ".hidden", "a b", "../x", "a/b", "-x", "x" * 129, "a\n"):
        with pytest.raises(UsageError):
            check_name(name)


def test_uuids_are_accepted() -> None:
    EndpointOptions(endpoint_id=str(uuid.uuid4()), allowed_functions=(str(uuid.uuid4()),)).check()
