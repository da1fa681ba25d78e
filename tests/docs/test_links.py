"""What pages name exists; commands stand where tests find them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from tests.docs.page import COMMAND, NOT_RUN, ROOT, read

PAGES = [ROOT / "README.md", ROOT / "examples" / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
WITH_COMMANDS = [
    ROOT / "README.md",
    *(ROOT / "docs" / f"{name}.md" for name in ("index", "your-own", "endpoints", "simulation")),
]
LANGUAGES = {"sh", "python", "yaml", "json", "text", ""}


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_every_relative_link_leads_to_a_file_and_a_heading(path: Path) -> None:
    page = read(path)
    for target in page.links:
        if re.match(r"\w+://", target):
            continue
        file, _, anchor = target.partition("#")
        there = path.parent / file if file else path
        assert there.exists(), f"{name_of(path)} links to {target}"
        assert not anchor or anchor in read(there).anchors, f"{name_of(path)} links to {target}"


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_every_file_of_the_project_that_is_named_exists(path: Path) -> None:
    for block in read(path).blocks:
        for word in re.findall(r"(?:\./)?(?:examples|resources|docs|tests|src)/[\w./-]+\.\w+", block.text):
            places = (ROOT / word, ROOT / "examples" / word)
            assert any(place.exists() for place in places), f"{name_of(path)}:{block.line}: {word}"


@pytest.mark.parametrize("path", WITH_COMMANDS, ids=name_of)
def test_every_command_line_is_in_a_block_that_tests_run_or_that_says_why_not(path: Path) -> None:
    page = read(path)
    for line in page.prose.splitlines():
        assert not (line.startswith("    ") and COMMAND.match(line)), f"{name_of(path)}: {line}"
    for block in page.blocks:
        assert block.language in LANGUAGES - {""}, f"{name_of(path)}:{block.line}: no language"
        if block.language == "sh":
            assert block.runs or len(block.remark) > len(NOT_RUN) + 10, (
                f"{name_of(path)}:{block.line}: why not?"
            )
        elif block.language == "text":
            assert not any(COMMAND.match(line) for line in block.text.splitlines()), block.text


def test_the_site_has_every_page() -> None:
    text = (ROOT / "mkdocs.yml").read_text()
    named = set(re.findall(r"[\w-]+\.md", str(yaml.safe_load(text)["nav"])))
    assert {path.name for path in (ROOT / "docs").glob("*.md")} <= named
