"""The entry function that sites' owners allow: its source stays the same between minor releases."""

from __future__ import annotations

import hashlib
import re

from appfl_gc.control.message import entry_source
from appfl_gc.site.entry import entry_requirements
from appfl_gc.version import VERSION

REGISTERED = "a4b762f0b7889c641eda7667ef892a411c3e08e9bf4dee3e4eb78a88eb32b01b"
"""SHA-256 of the source. Changing it makes every UUID in a site's allowed_functions stale: only in a minor release."""


def test_the_source_is_the_one_that_sites_have_allowed() -> None:
    assert hashlib.sha256(entry_source().encode()).hexdigest() == REGISTERED


def test_the_source_names_no_version_and_stands_by_itself() -> None:
    source = entry_source()
    assert VERSION not in source and not re.search(r"\d+\.\d+\.\d+", source)
    space: dict[str, object] = {}
    exec(compile(source, "<registered>", "exec"), {}, space)
    assert list(space) == ["appfl_gc_entry"]


def test_patch_releases_ask_for_the_same() -> None:
    assert entry_requirements("1.2.0") == entry_requirements("1.2.17")
