"""Which tests stay in one process when several run them."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from xdist.scheduler import LoadScopeScheduling

ROOT = Path(__file__).parents[1]


class Together(LoadScopeScheduling):  # type: ignore[misc]
    """Keeps tests together that use a fixture made once for their module or folder; largest groups first.

    A fixture of the session is made once in each process. (`--dist loadgroup` of pytest-xdist 3.8 does nothing
    under pytest 9.2: it writes the group into a part of an item that is computed now.)
    """

    def _split_scope(self, nodeid: str) -> str:
        module = nodeid.partition("::")[0]
        return shared_by(module) or nodeid


@cache
def shared_by(module: str) -> str | None:
    """The module (a path below the root), or its folder, whose tests share a fixture; ``None`` if they don't."""
    own = _scopes(module)
    folders = [_scopes(str(folder / "conftest.py")) for folder in Path(module).parents]
    if "package" in own.union(*folders):
        return str(Path(module).parent)
    return module if own.union(*folders) else None


@cache
def _scopes(file: str) -> set[str]:
    """What the fixtures of a file are made once for, where that is not a test."""
    path = ROOT / file
    return (
        set(re.findall(r'scope="(class|module|package|session)"', path.read_text()))
        if path.exists()
        else set()
    )
