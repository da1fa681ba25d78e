"""Nothing that a site sends is executed by the serialiser, and nothing of it is kept."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

import pytest
from globus_compute_sdk.serialize import (
    CombinedCode,
    ComputeSerializer,
    DillCode,
    DillDataBase64,
    PureSourceTextInspect,
)
from hypothesis import given
from hypothesis import strategies as st

from appfl_gc.control.globus_compute.sending.serializer import JsonOnlySerializer


class Bomb:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, (f"touch {self.marker}",)


def hostile(marker: Path) -> list[str]:
    pickled = DillDataBase64().serialize(Bomb(marker))
    body = pickled.removeprefix(DillDataBase64.identifier)
    return [
        pickled,
        f"{PureSourceTextInspect.identifier}f:open({str(marker)!r}, 'w')\ndef f():\n    pass\n",
        f"{DillCode.identifier}{body}",
        f"{CombinedCode.identifier}{DillCode.identifier}:{body}",
    ]


@pytest.mark.parametrize("number", range(4))
def test_what_the_sdk_would_execute_is_not(tmp_path: Path, number: int) -> None:
    marker = tmp_path / "executed"
    text = hostile(marker)[number]
    assert len(JsonOnlySerializer().deserialize(text).take()) <= 64
    assert not marker.exists()
    with contextlib.suppress(Exception):  # it explodes after it has gone off
        ComputeSerializer().deserialize(text)
    assert marker.exists(), "the bomb is not armed"


@given(st.one_of(st.text(), st.none(), st.integers(), st.lists(st.text())))
def test_it_never_raises(payload: Any) -> None:
    taken = JsonOnlySerializer().deserialize(payload).take()
    assert payload[:64].startswith(taken) if isinstance(payload, str) else taken == ""


def test_json_goes_through_once_however_deep() -> None:
    text = "11\n" + "[" * 200_000 + "]" * 200_000
    kept = JsonOnlySerializer().deserialize(text)
    assert kept.take() is text
    assert kept.take() == ""


def test_functions_are_not_serialised() -> None:
    with pytest.raises(TypeError):
        JsonOnlySerializer().serialize(hostile)
