"""Which ``appfl`` names a user's file may import, and what to use instead of the others."""

from __future__ import annotations

from appfl_gc.config.findings import nearest
from appfl_gc.config.user_file import ImportedName

TRAINER = frozenset({"BaseTrainer", "VanillaTrainer"})
PROVIDED: dict[str, frozenset[str]] = {
    "appfl": frozenset(),
    "appfl.misc": frozenset(),
    "appfl.misc.data": frozenset(
        {"Dataset", "iid_partition", "class_noniid_partition", "dirichlet_noniid_partition"}
    ),
    "appfl.algorithm": frozenset(),
    "appfl.algorithm.trainer": TRAINER,
    "appfl.algorithm.trainer.base_trainer": frozenset({"BaseTrainer"}),
    "appfl.algorithm.trainer.vanilla_trainer": frozenset({"VanillaTrainer"}),
    "appfl.algorithm.aggregator": frozenset({"BaseAggregator"}),
    "appfl.algorithm.aggregator.base_aggregator": frozenset({"BaseAggregator"}),
    "appfl.algorithm.scheduler": frozenset({"BaseScheduler"}),
    "appfl.algorithm.scheduler.base_scheduler": frozenset({"BaseScheduler"}),
}
"""Modules and names that the compatibility module provides."""

REPLACED = (
    ("appfl.agent", "`appfl_gc.run(server_config, client_config)` runs a federation; there are no agents."),
    ("appfl.comm", "`endpoint_id` and `comm_configs` choose how models travel; no communicator is imported."),
    ("appfl.config", "`appfl_gc.config.load` reads both files."),
    ("appfl.misc.utils", "Give the paths and names in the configuration; the program loads the files."),
    ("appfl.misc", "`appfl_gc.site.data` has datasets and partitions."),
    ("appfl.privacy", "Differential privacy is not supported yet."),
    ("appfl.compressor", "Compression is not supported yet."),
    ("appfl.algorithm.trainer", "Derive from `appfl.algorithm.trainer.VanillaTrainer` or `BaseTrainer`."),
    ("appfl.algorithm.aggregator", "Derive from `appfl.algorithm.aggregator.BaseAggregator`."),
    ("appfl.algorithm.scheduler", "Derive from `appfl.algorithm.scheduler.BaseScheduler`."),
)


def is_appfl(imported: ImportedName) -> bool:
    """Whether the import is from the package ``appfl``."""
    return imported.level == 0 and imported.module.partition(".")[0] == "appfl"


def is_provided(imported: ImportedName) -> bool:
    """Whether the compatibility module provides what is imported."""
    names = PROVIDED.get(imported.module)
    if not imported.name or imported.name == "*":
        return names is not None
    return (names is not None and imported.name in names) or f"{imported.module}.{imported.name}" in PROVIDED


def replacement(imported: ImportedName) -> str:
    """What to use instead of an ``appfl`` name that is not provided."""
    near = nearest(imported.name, PROVIDED.get(imported.module, ())) if imported.name else ""
    if near:
        return f"Did you mean `{near}`?"
    full = f"{imported.module}.{imported.name}".rstrip(".")
    for prefix, words in REPLACED:
        if full == prefix or full.startswith(f"{prefix}."):
            return words
    return "The compatibility module provides Dataset, the partition functions and the base classes only."
