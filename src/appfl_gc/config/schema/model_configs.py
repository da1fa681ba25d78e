"""The block ``model_configs``: what is trained."""

from __future__ import annotations

from appfl_gc.config.schema.block import Block, KwargsBlock, key


class ModelConfigs(Block):
    """What is trained."""

    model_path: str | None = key("Python file with the model, or `site:NAME`. VanillaTrainer requires it.")
    model_name: str | None = key(
        "Class or function in `model_path`; the last function of the file if left out."
    )
    model_kwargs: KwargsBlock = key("Keyword arguments of the model.", {}, validate_default=True)
    seed: int = key(
        "Seed of the initial weights, and of all other randomness of the run.", 42, ge=0, le=2**63 - 1
    )
