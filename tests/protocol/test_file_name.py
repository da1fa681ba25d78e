"""Whatever users call their clients, it makes a file name, and different names make different ones."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from appfl_gc.protocol.file_name import file_name_part


@given(st.text(), st.text())
def test_names_are_safe_and_kept_apart(a: str, b: str) -> None:
    assert re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,100}", file_name_part(a))
    assert (file_name_part(a) == file_name_part(b)) == (a == b)


def test_ordinary_names_stay_as_they_are() -> None:
    assert file_name_part("Client1") == "Client1"
