"""Which ``appfl`` names a user's file may import, and what to use instead of the others."""

from __future__ import annotations

from appfl_gc.compat import names
from appfl_gc.config.findings import did_you_mean
from appfl_gc.config.user_file import ImportedName


def is_appfl(imported: ImportedName) -> bool:
    """Whether the import is from the package ``appfl``."""
    return imported.level == 0 and imported.module.partition(".")[0] == "appfl"


def is_provided(imported: ImportedName) -> bool:
    """Whether the compatibility module provides what is imported: a name, or a module on the way to one."""
    full = imported.module if imported.name in {"", "*"} else f"{imported.module}.{imported.name}"
    is_module = any(provided.startswith(f"{full}.") for provided in names.PROVIDED)
    return is_module or full in names.PROVIDED


def replacement(imported: ImportedName) -> str:
    """What to use instead of an ``appfl`` name that is not provided."""
    beside = [
        provided.rpartition(".")[2]
        for provided in names.PROVIDED
        if provided.startswith(f"{imported.module}.")
    ]
    full = f"{imported.module}.{imported.name}".rstrip(".")
    return did_you_mean(imported.name, beside) or names.replacement(full)
