from __future__ import annotations

import time
from itertools import pairwise
from pathlib import Path

import pytest

from appfl_gc.config.diagnostic import ConfigError, Diagnostic
from appfl_gc.config.document import Document, parse_value, read_document


def read(tmp_path: Path, text: str | bytes) -> Document:
    path = tmp_path / "file.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_document(path)


def refused(tmp_path: Path, text: str | bytes) -> list[Diagnostic]:
    try:
        return read(tmp_path, text).problems
    except ConfigError as error:
        return list(error.diagnostics)


def test_marks_say_where_keys_and_items_are(tmp_path: Path) -> None:
    document = read(tmp_path, "a:\n  b: 1\n  c:\n  - x\n  - y: 2\n")
    assert document.tree == {"a": {"b": 1, "c": ["x", {"y": 2}]}}
    lines = {path: mark.line for path, mark in document.marks.items()}
    assert lines == {
        ("a",): 1, ("a", "b"): 2, ("a", "c"): 3, ("a", "c", 0): 4, ("a", "c", 1): 5, ("a", "c", 1, "y"): 5,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001), ("1.5e3", 1500.0), ("3", 3), ("-0.5", -0.5), (".inf", float("inf")), ("yes", True),
        ("1_000", 1000), ("2024-01-01", "2024-01-01"), ("'1'", "1"), ("", None), ("null", None), ("1.2.3", "1.2.3"),
        ("4f53131b-e59d-465f-9153-efe9b02d9f3e", "4f53131b-e59d-465f-9153-efe9b02d9f3e"), ("12e", "12e"),
    ],
)  # fmt: skip
def test_scalars_are_read_as_published(text: str, value: object) -> None:
    found = parse_value(text)
    assert found == value
    assert type(found) is type(value)


def test_merge_keys_inherit_and_lose_to_own_keys(tmp_path: Path) -> None:
    document = read(tmp_path, "a: &x {p: 1, q: {r: 2}}\nb:\n  <<: *x\n  p: 3\n")
    assert document.tree["b"] == {"p": 3, "q": {"r": 2}}
    assert document.mark(("b", "p")).line == 4
    assert document.mark(("b", "q", "r")).line == 1


def test_values_behind_an_alias_are_not_shared(tmp_path: Path) -> None:
    tree = read(tmp_path, "a: &x {p: 1}\nb: *x\n").tree
    tree["a"]["p"] = 2
    assert tree["b"] == {"p": 1}


@pytest.mark.parametrize("text", ["", "\n", "# only a comment\n"])
def test_an_empty_file(tmp_path: Path, text: str) -> None:
    assert "empty" in refused(tmp_path, text)[0].message


def test_a_list(tmp_path: Path) -> None:
    assert "a list where a block of keys was expected" in refused(tmp_path, "- a\n- b\n")[0].message


def test_tabs(tmp_path: Path) -> None:
    found = refused(tmp_path, "a:\n\tb: 1\n")[0]
    assert (found.line, "tab" in found.message) == (2, True)


def test_all_duplicate_keys_at_once(tmp_path: Path) -> None:
    found = refused(tmp_path, "a: 1\nb: {c: 1, c: 2}\na: 2\n")
    assert [(item.key, item.line) for item in found] == [("b.c", 2), ("a", 3)]
    assert "line 1" in found[1].message


@pytest.mark.parametrize("text", ["a: &x\n  b: *x\n", "a: &x [1, *x]\n", "a: &x {<<: *x}\n"])
def test_an_alias_to_itself(tmp_path: Path, text: str) -> None:
    found = refused(tmp_path, text)
    assert len(found) == 1
    assert "alias" in found[0].message


def test_not_utf8_names_the_line(tmp_path: Path) -> None:
    found = refused(tmp_path, b"a: 1\nb: \xff\n")[0]
    assert (found.line, "UTF-8" in found.message) == (2, True)


def test_an_explosion_of_aliases_is_refused_at_once(tmp_path: Path) -> None:
    names = "abcdefghijklm"
    lines = ["a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    for before, name in pairwise(names):
        lines.append(f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]")
    started = time.monotonic()
    found = refused(tmp_path, "\n".join(lines))
    assert "aliases" in found[0].message
    assert time.monotonic() - started < 10


@pytest.mark.parametrize("text", ["a: " + "[" * 5000 + "]" * 5000, "a: " + "{a: " * 500 + "}" * 500])
def test_deep_nesting(tmp_path: Path, text: str) -> None:
    assert "deep" in refused(tmp_path, text)[0].message


@pytest.mark.parametrize(
    ("text", "line"), [("a: b: c\n", 1), ("a: 1\nb: [1\n", 3), ("a: *nope\n", 1), ("a: 1\n---\nb: 2\n", 2)]
)
def test_broken_yaml_names_the_line(tmp_path: Path, text: str, line: int) -> None:
    found = refused(tmp_path, text)
    assert [item.line for item in found] == [line]
    assert found[0].message.startswith("This is not YAML")


def test_control_characters(tmp_path: Path) -> None:
    assert "not YAML" in refused(tmp_path, "a: \x01\n")[0].message


def test_keys_that_are_not_text_and_foreign_tags(tmp_path: Path) -> None:
    found = refused(tmp_path, "1: a\non: b\nc: !!python/object:os.system x\n")
    assert [item.line for item in found] == [1, 2, 3]
    assert found[1].hint == 'Put it in quotes: "on".'


def test_a_missing_file_names_those_beside_it(tmp_path: Path) -> None:
    (tmp_path / "server.yaml").write_text("a: 1\n")
    with pytest.raises(ConfigError) as caught:
        read_document(tmp_path / "serve.yaml")
    assert "server.yaml" in caught.value.diagnostics[0].hint


def test_a_directory(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="directory"):
        read_document(tmp_path)
