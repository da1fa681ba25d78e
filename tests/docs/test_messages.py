"""The messages that the troubleshooting page explains are those of the program."""

from __future__ import annotations

import ast
import difflib
import re

import pytest

from tests.docs.page import ROOT

PAGE = ROOT / "docs" / "troubleshooting.md"
HEADINGS = [line[4:] for line in PAGE.read_text().splitlines() if line.startswith("### ")]
OF_TORCH = {"RuntimeError", "mat1 and mat2 shapes cannot be multiplied", "FileNotFoundError",
            "ValueError: only one element tensors can be converted to Python scalars"}  # fmt: skip


def words_of_the_program() -> list[list[str]]:
    """The words of every string in the source, in order; what an f-string fills in is left out."""
    texts = []
    for path in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.JoinedStr):
                parts = (part.value for part in node.values if isinstance(part, ast.Constant))
                texts.append(" ".join(str(part) for part in parts))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.append(node.value)
    return [words(text) for text in texts]


def words(text: str) -> list[str]:
    return re.findall(r"[\w-]+", text)


@pytest.fixture(scope="module")
def program() -> list[list[str]]:
    return words_of_the_program()


def test_there_are_messages() -> None:
    assert len(HEADINGS) > 30


@pytest.mark.parametrize("heading", HEADINGS)
def test_a_message_is_in_the_program(heading: str, program: list[list[str]]) -> None:
    for foreign in OF_TORCH:
        heading = heading.replace(foreign, "")
    wanted = words(heading)
    best = max(program, key=lambda said: share(wanted, said))
    assert share(wanted, best) >= 0.6, f"{heading}\nis nearest to: {' '.join(best)}"


def share(wanted: list[str], said: list[str]) -> float:
    """The share of ``wanted`` that is in ``said``, in the same order."""
    if len(set(wanted) & set(said)) < 0.6 * len(set(wanted)):
        return 0.0
    blocks = difflib.SequenceMatcher(None, wanted, said, autojunk=False).get_matching_blocks()
    return sum(block.size for block in blocks) / len(wanted)
