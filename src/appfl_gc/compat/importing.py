"""``import appfl`` in a user's file: the names that such files use, given by this package's own classes.

Only the user's module sees them. Its ``__builtins__`` decides how its ``import`` statements work, those at
its top and those inside its functions, whenever they run; it gets an ``__import__`` that answers for
``appfl``. ``sys.modules`` and ``sys.meta_path`` stay untouched, so the names here win over an installed
``appfl`` in user files, and other libraries that import the real one still get it.
``importlib.import_module("appfl")`` is not covered.
"""

from __future__ import annotations

import builtins
import importlib
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any

from appfl_gc.compat.names import PROVIDED, replacement

_ROOT = "appfl"


def mentions_appfl(text: str) -> bool:
    """Whether a file's text may import ``appfl``; if not, it needs no ``user_builtins``."""
    return _ROOT in text


def user_builtins() -> dict[str, Any]:
    """A copy of Python's builtins whose ``__import__`` answers for ``appfl``."""
    names = dict(vars(builtins))
    names["__import__"] = _import
    return names


def _import(
    name: str,
    globals: Mapping[str, object] | None = None,
    locals: Mapping[str, object] | None = None,
    fromlist: Sequence[str] | None = (),
    level: int = 0,
) -> ModuleType:
    if level == 0 and (name == _ROOT or name.startswith(f"{_ROOT}.")):
        return import_appfl(name, fromlist or ())
    return builtins.__import__(name, globals, locals, fromlist or (), level)


def import_appfl(name: str, fromlist: Sequence[str] = ()) -> ModuleType:
    """What ``import name`` or ``from name import *fromlist`` gives in a user's file.

    Raises:
        ImportError: for a name that this package does not provide; the message says what to use instead.
    """
    if not _is_module(name):
        raise ImportError(_refusal(name), name=name)
    if not fromlist:
        return _CompatModule(_ROOT)
    module = _CompatModule(name)
    for item in fromlist:
        full = f"{name}.{item}"
        if item != "*" and full not in PROVIDED and not _is_module(full):
            raise ImportError(_refusal(full), name=full)
    return module


class _CompatModule(ModuleType):
    """One ``appfl`` module; its names are resolved when they are asked for, so nothing is imported early."""

    def __init__(self, name: str) -> None:
        super().__init__(name, f"The names of {name} that appfl_gc provides.")
        self.__path__: list[str] = []
        self.__all__ = sorted(full.rpartition(".")[2] for full in PROVIDED if full.rpartition(".")[0] == name)

    def __getattr__(self, name: str) -> Any:
        full = f"{self.__name__}.{name}"
        if full in PROVIDED:
            module, _, attribute = PROVIDED[full].partition(":")
            return getattr(importlib.import_module(module), attribute)
        if _is_module(full):
            return _CompatModule(full)
        raise AttributeError(_refusal(full))


def _is_module(name: str) -> bool:
    return any(full.startswith(f"{name}.") for full in PROVIDED)


def _refusal(name: str) -> str:
    return f"appfl_gc does not provide {name}. {replacement(name)}"
