from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appfl_gc.config.user_file import read_user_file, unfit_arguments

NAMES = ["a", "b", "c", "d"]


@st.composite
def functions(draw: st.DrawFn) -> str:
    """The first line of a function with parameters of every sort."""
    names = draw(st.permutations(NAMES))
    positional_only, positional = sorted((draw(st.integers(0, 4)), draw(st.integers(0, 4))))
    defaults_from = draw(st.integers(0, positional))
    parts = [f"{name}=1" if index >= defaults_from else name for index, name in enumerate(names[:positional])]
    if positional_only:
        parts.insert(positional_only, "/")
    star = draw(st.sampled_from(["", "*args", "*"]))
    keyword = [f"{name}{draw(st.sampled_from(['', '=1']))}" for name in names[positional:]]
    if star == "*args" or (keyword and star):
        parts.append(star)
        parts.extend(keyword)
    if draw(st.booleans()):
        parts.append("**kwargs")
    return f"def f({', '.join(parts)}): ..."


@given(functions(), st.sets(st.sampled_from([*NAMES, "other"])))
def test_arguments_fit_as_python_says(source: str, given_names: set[str]) -> None:
    scope: dict[str, object] = {}
    exec(source, scope)
    function = scope["f"]
    assert callable(function)
    try:
        function(**dict.fromkeys(given_names, 1))
        fits = True
    except TypeError:
        fits = False
    definition = read_user_file(source).find("f")
    assert definition is not None
    assert definition.signature is not None
    assert (unfit_arguments(definition.signature, given_names) == ([], [])) is fits


def test_definitions_inside_conditions_count_and_the_last_wins() -> None:
    found = read_user_file(
        "try:\n    import x as y\nexcept ImportError:\n    y = None\n"
        "if y:\n    def f(): ...\nelse:\n    def f(a): ...\nclass C: ...\ndef g(): ...\n(p, q) = 1, 2\n"
    )
    assert [definition.name for definition in found.definitions] == ["f", "C", "g"]
    assert {"y", "p", "q"} <= found.bound
    last = found.last(is_class=False)
    assert last is not None
    assert last.name == "g"


@pytest.mark.parametrize("text", ["def f(:\n", "\0", "(" * 10_000])
def test_what_is_not_python(text: str) -> None:
    with pytest.raises(SyntaxError):
        read_user_file(text)
