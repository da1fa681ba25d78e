"""The entry function stands by itself: it travels as source and says what a site lacks."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from appfl_gc.control.message import entry_source
from appfl_gc.protocol.call import Call
from appfl_gc.protocol.errors import ErrorClass
from appfl_gc.protocol.identity import CallId
from appfl_gc.protocol.reply import Reply
from appfl_gc.site.entry import appfl_gc_entry, entry_requirements
from appfl_gc.version import VERSION

CALL = Call(CallId("run", 0, "A"), "site.hello", nonce="n")


def answer(call: dict[str, Any], requires: dict[str, str]) -> Any:
    """The entry function's reply in this process."""
    return appfl_gc_entry(call, requires)


def run_source(call: dict[str, Any], requires: dict[str, str], *python_flags: str) -> Reply:
    """Run the entry function's source alone in another interpreter."""
    program = (
        "import json, sys\nsource, call, requires = json.load(sys.stdin)\nnames = {}\nexec(source, names)\n"
        "print(json.dumps(names['appfl_gc_entry'](call, requires)))"
    )
    done = subprocess.run(
        [sys.executable, *python_flags, "-c", program],
        input=json.dumps([entry_source(), call, requires]),
        capture_output=True,
        text=True,
        check=True,
    )
    return Reply.from_json(json.loads(done.stdout))


def test_a_site_without_appfl_gc_answers_with_the_pip_line() -> None:
    reply = run_source(CALL.to_json(), entry_requirements(VERSION), "-I", "-S")
    reply.check_answers(CALL)
    assert reply.error is not None
    assert reply.error.error_class is ErrorClass.VERSION
    assert "cannot import appfl_gc" in reply.error.message
    assert 'pip install "appfl_gc>=0.1,<0.2"' in reply.error.hint


@pytest.mark.parametrize(("at_least", "below"), [("0.2", "0.3"), ("0.0", "0.1"), ("9.9", "10.0")])
def test_a_version_out_of_range_is_named(at_least: str, below: str) -> None:
    reply = Reply.from_json(answer(CALL.to_json(), {"at_least": at_least, "below": below}))
    assert reply.error is not None
    assert reply.error.error_class is ErrorClass.VERSION
    assert VERSION in reply.error.message
    assert f'"appfl_gc>={at_least},<{below}"' in reply.error.hint


def test_every_release_of_the_same_minor_version_fits() -> None:
    assert entry_requirements("1.4.7") == {"at_least": "1.4", "below": "1.5"}
    assert Reply.from_json(answer(CALL.to_json(), entry_requirements(VERSION))).error is None


def test_it_never_raises() -> None:
    assert answer({}, {})["error"]["error_class"] == "internal"


def test_its_source_imports_nothing_at_top_level() -> None:
    assert entry_source().startswith("def appfl_gc_entry(")
