"""A documentation page as a test reads it: its blocks, what is written in front of them, its links."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
NOT_RUN = "not run in tests: "
EXIT_STATUS = "exit status "
COMMAND = re.compile(r"\s*(\$ )?(appfl-gc|python3?|make|pip|\.venv/bin/\S+) ")

_FENCE = re.compile(r"(?P<indent> *)```(?P<info>.*)")
_COMMENT = re.compile(r" *<!-- (?P<text>.*) -->")
_LINK = re.compile(r"(?<!`)\[[^\]]*\]\((?P<target>[^)\s]+)\)")
_HEADING = re.compile(r"#+ (?P<title>.*)")


@dataclass(frozen=True)
class Block:
    """One fenced block.

    Attributes:
        line: of its opening fence, from 1.
        language: ``sh``, ``python``, ``yaml`` or ``text``.
        title: name of the file that it holds, or "".
        text: its content.
        remark: the comment in the line before it, or "".
    """

    line: int
    language: str
    title: str
    text: str
    remark: str

    @property
    def runs(self) -> bool:
        """Whether tests run it: a block of commands that says nothing else."""
        return self.language == "sh" and not self.remark.startswith(NOT_RUN)

    @property
    def exit_status(self) -> int:
        """The exit status that the block is to end with."""
        return int(self.remark.removeprefix(EXIT_STATUS)) if self.remark.startswith(EXIT_STATUS) else 0

    @property
    def file(self) -> str:
        """The file that the block is the whole of, or ""."""
        return self.title if self.title and " " not in self.title and "/" not in self.title else ""


@dataclass(frozen=True)
class Page:
    """One Markdown file."""

    path: Path
    blocks: tuple[Block, ...]
    prose: str

    @property
    def links(self) -> list[str]:
        """Targets of links and pictures, in order."""
        return [match["target"] for match in _LINK.finditer(self.prose)]

    @property
    def anchors(self) -> set[str]:
        """Names of its headings as links write them."""
        titles = [match["title"] for line in self.prose.splitlines() if (match := _HEADING.fullmatch(line))]
        return {re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", title).strip().lower()) for title in titles}

    def block(self, title: str) -> Block:
        """The block with this title."""
        return next(block for block in self.blocks if block.title == title)


def read(path: Path) -> Page:
    """Parse a page; everything outside of fenced blocks is its prose."""
    blocks, prose = [], []
    remark, lines = "", path.read_text(encoding="utf-8").splitlines()
    position = 0
    while position < len(lines):
        line = lines[position]
        opening = _FENCE.fullmatch(line)
        if opening is None:
            comment = _COMMENT.fullmatch(line)
            remark = comment["text"] if comment else ""
            prose.append(line)
            position += 1
            continue
        indent = len(opening["indent"])
        end = next(n for n in range(position + 1, len(lines)) if lines[n].strip() == "```")
        text = "\n".join(inner[indent:] for inner in lines[position + 1 : end])
        language, *options = shlex.split(opening["info"]) or [""]
        title = next((word[6:] for word in options if word.startswith("title=")), "")
        blocks.append(Block(position + 1, language, title, text, remark))
        remark, position = "", end + 1
    return Page(path, tuple(blocks), "\n".join(prose))
