"""The table of failure classes is that of the program."""

from __future__ import annotations

import re

import yaml

from appfl_gc.cli.exit_codes import of_class
from appfl_gc.config.schema.server_configs import FaultToleranceConfigs
from appfl_gc.protocol.errors import ErrorClass
from appfl_gc.runner.policy.settings import PolicySettings
from tests.docs.page import ROOT

PAGE = (ROOT / "docs" / "failures.md").read_text()


def test_every_class_has_its_exit_code() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \|.*\| (\d+) \|[^|]*\|$", PAGE, re.M))
    assert rows == {kind.value: str(of_class(kind).value) for kind in ErrorClass}


def test_what_is_never_tried_again_is_said_so() -> None:
    never = set(re.findall(r"^\| `(\w+)` \|.*(?:Never tried again|As above\. \| [58] )", PAGE, re.M))
    assert never == {kind.value for kind in ErrorClass if not kind.infrastructure}
    often = PolicySettings().retries_for
    assert (often(ErrorClass.TRANSFER), often(ErrorClass.WALLTIME), often(ErrorClass.QUEUE_LIMIT)) == (
        2,
        20,
        20,
    )


def test_the_example_has_every_knob() -> None:
    block = yaml.safe_load(re.findall(r"```yaml\n(.*?)```", PAGE, re.S)[0])
    given = block["server_configs"]["fault_tolerance_configs"]
    assert given.keys() == FaultToleranceConfigs.model_fields.keys()
    PolicySettings.of(FaultToleranceConfigs.model_validate(given, strict=False))
