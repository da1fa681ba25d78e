"""Templates: what is written comes back as it was, whatever the text holds."""

from __future__ import annotations

import json
from typing import Any

import jinja2.sandbox
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from appfl_gc.hpc.endpoint.template import Cases, IfGiven, Script, Tree, Variable, render, variables


def load(tree: Tree, comment: str = "", **options: Any) -> Any:
    """Render as the agent does: strings arrive as JSON text, undefined variables are errors."""
    environment = jinja2.sandbox.SandboxedEnvironment(undefined=jinja2.StrictUndefined)
    given = {key: json.dumps(value) if isinstance(value, str) else value for key, value in options.items()}
    return yaml.safe_load(environment.from_string(render(tree, comment)).render(**given))


# What YAML can hold; the options' check refuses the rest.
TEXT = st.text(st.characters(min_codepoint=32, max_codepoint=0x2FF, exclude_categories=["Cc", "Cs"]))


@given(TEXT)
def test_a_literal_comes_back(text: str) -> None:
    assert load({"key": text}) == {"key": text}


@given(TEXT)
def test_a_default_comes_back(text: str) -> None:
    assert load({"key": Variable("name", text)}) == {"key": text}


@given(TEXT, TEXT)
def test_a_script_ends_with_the_submitters_part(own: str, theirs: str) -> None:
    tree = {"key": Script(f"{own}\n", "worker_init"), "other": 1}
    lines = f"{own}\n"
    assert load(tree, worker_init=theirs) == {"key": lines + theirs, "other": 1}
    assert load(tree) == {"key": lines, "other": 1}


@pytest.mark.parametrize(
    "text", ["{{ 7 * 7 }}", "{% raw %}", "{# c #}", 'a"\nother: 2', "  indented", "a\n\nb", "é{{", "\\n"]
)
def test_text_is_never_a_tag_or_a_key(text: str) -> None:
    assert load({"key": Script(text), "k2": text, "k3": Variable("x", text)}, x=text) == {
        "key": "".join(f"{line}\n" for line in text.splitlines()),
        "k2": text,
        "k3": text,
    }


def test_a_variable_follows_another() -> None:
    tree = {"workers": Variable("workers", 1, follows="gpus"), "gpus": Variable("gpus")}
    assert load(tree) == {"workers": 1, "gpus": None}
    assert load(tree, gpus=4) == {"workers": 4, "gpus": 4}
    assert load(tree, gpus=4, workers=2) == {"workers": 2, "gpus": 4}


def test_keys_that_depend_on_a_choice() -> None:
    launcher = Cases(Variable("launcher", "A"), {"A": {"x": 1}, "B": {"y": Variable("why", 2)}})
    assert load({"launcher": launcher}) == {"launcher": {"type": "A", "x": 1}}
    assert load({"launcher": launcher}, launcher="B") == {"launcher": {"type": "B", "y": 2}}
    assert load({"launcher": launcher}, launcher="C") == {"launcher": {"type": "C"}}
    assert load({"launcher": Cases("B", {"B": {"y": 2}})}) == {"launcher": {"type": "B", "y": 2}}
    assert variables({"launcher": launcher}) == {"launcher": False, "why": False}


def test_a_block_that_is_there_only_when_asked_for() -> None:
    tree = {"a": 1, "address": IfGiven(Variable("interface"), {"ifname": Variable("interface")})}
    assert load(tree) == {"a": 1}
    assert load(tree, interface="lo") == {"a": 1, "address": {"ifname": "lo"}}


def test_what_is_required_has_no_default() -> None:
    tree = {"account": Variable("account", required=True)}
    assert variables(tree) == {"account": True}
    with pytest.raises(jinja2.UndefinedError):
        load(tree)


def test_a_comment_is_not_rendered() -> None:
    assert load({"key": 1}, "one #} {{ two }}\nthree") == {"key": 1}
