"""Answering a call: whatever happens in it, the answer is a reply."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from appfl_gc.protocol.call import Call
from appfl_gc.protocol.errors import ErrorClass
from appfl_gc.protocol.identity import CallId
from appfl_gc.protocol.reply import Reply
from appfl_gc.site.entry import entry_requirements
from appfl_gc.site.handle import handle
from appfl_gc.version import VERSION

REQUIRES = entry_requirements(VERSION)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("APPFL_GC_SITE_HOME", str(tmp_path / "site"))
    monkeypatch.delenv("APPFL_GC_SITE_POLICY", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def ask(channel: str, **args: Any) -> Reply:
    call = Call(CallId("run", 0, "A"), channel, args, nonce="n")
    reply = Reply.from_json(json.loads(json.dumps(handle(call.to_json(), REQUIRES))))
    reply.check_answers(call)
    return reply


def test_an_unknown_channel_says_which_there_are() -> None:
    reply = ask("trainer.readiness")
    assert reply.error is not None
    assert "not supported yet" in reply.error.message
    assert "trainer.train" in reply.error.hint


def test_the_sender_of_a_malformed_call_recognises_the_answer() -> None:
    call = Call(CallId("run", 0, "A"), "site.hello", nonce="n")
    reply = Reply.from_json(handle({**call.to_json(), "channel": 7}, REQUIRES))
    reply.check_answers(call)
    assert reply.error is not None


@pytest.mark.parametrize(
    "message", [{}, {"wire": 99}, {"wire": 1, "channel": "x"}, {"wire": 1, "identity": 3}]
)
def test_a_malformed_call_is_answered(message: Mapping[str, Any]) -> None:
    reply = Reply.from_json(handle(dict(message), REQUIRES))
    assert reply.error is not None
    assert reply.error.error_class is ErrorClass.PROTOCOL


@pytest.mark.parametrize(
    "args", [{"sources": 3}, {"config": []}, {"acknowledged": "x"}, {"sources": {"model": 1}}]
)
def test_malformed_arguments_are_answered(args: dict[str, Any]) -> None:
    reply = ask("trainer.sample_size", **args)
    assert reply.error is not None
    assert reply.error.error_class is ErrorClass.PROTOCOL


def test_hello_needs_no_torch(home: Path) -> None:
    program = (
        "import json, sys\nsys.modules['torch'] = None\nfrom appfl_gc.site.handle import handle\n"
        "print(json.dumps(handle(*json.load(sys.stdin))))"
    )
    call = Call(CallId("run", 0, "A"), "site.hello", nonce="n").to_json()
    done = subprocess.run(
        [sys.executable, "-c", program],
        input=json.dumps([call, REQUIRES]),
        capture_output=True,
        text=True,
        env=dict(os.environ),
    )
    assert done.returncode == 0, done.stderr
    reply = Reply.from_json(json.loads(done.stdout))
    assert reply.error is None
    assert reply.values["torch"] is False
    assert reply.values["working_directory"] == str(home)


def test_a_policy_that_cannot_be_read_lets_nothing_run(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "site.yaml").write_text("sources: maybe")
    monkeypatch.setenv("APPFL_GC_SITE_POLICY", str(home / "site.yaml"))
    reply = ask("site.hello")
    assert reply.error is not None
    assert reply.error.error_class is ErrorClass.SOURCE_REFUSED
    assert "nothing may run here" in reply.error.message
