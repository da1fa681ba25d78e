"""Typed access to the keys that a built-in trainer reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig, OmegaConf

from appfl_gc.protocol.errors import UserCodeError
from appfl_gc.protocol.number_range import NumberRange

_MISSING = object()


@dataclass(frozen=True)
class ConfigReader:
    """Reads the keys of one block; null counts as absent. Every method raises ``UserCodeError``.

    Attributes:
        configs: the block.
        trainer: who needs the keys, for messages.
        block: the block's name, for messages.
    """

    configs: DictConfig
    trainer: str = "VanillaTrainer"
    block: str = "train_configs"

    def _get(self, key: str, default: object) -> Any:
        value = self.configs.get(key)
        if value is not None:
            return value
        if default is _MISSING:
            raise UserCodeError(f"{self.block}.{key} is missing; {self.trainer} needs it.")
        return default

    def _wrong(self, key: str, value: object, expected: str) -> UserCodeError:
        return UserCodeError(f"{self.block}.{key} is {value!r}; expected {expected}.")

    def text(self, key: str, default: object = _MISSING) -> str:
        """A text."""
        value = self._get(key, default)
        if not isinstance(value, str):
            raise self._wrong(key, value, "text")
        return value

    def flag(self, key: str, default: bool) -> bool:
        """True or False."""
        value = self._get(key, default)
        if not isinstance(value, bool):
            raise self._wrong(key, value, "True or False")
        return value

    def whole(self, key: str, default: object = _MISSING, *, at_least: int) -> int:
        """A whole number of at least ``at_least``."""
        return int(self._number(key, default, NumberRange(at_least=at_least, whole=True)))

    def number(
        self,
        key: str,
        default: object = _MISSING,
        *,
        above: float = 0.0,
        at_least: float | None = None,
        finite: bool = True,
    ) -> float:
        """A number above ``above``, or of at least ``at_least`` where that is given."""
        expected = (
            NumberRange(above=above, finite=finite)
            if at_least is None
            else NumberRange(at_least=at_least, finite=finite)
        )
        return float(self._number(key, default, expected))

    def _number(self, key: str, default: object, expected: NumberRange) -> Any:
        value = self._get(key, default)
        expected.check(f"{self.block}.{key}", value)
        return value

    def mapping(self, key: str) -> dict[str, Any]:
        """Keys with values, as plain dictionaries and lists; empty where absent."""
        plain = OmegaConf.to_container(self._block(key), resolve=True)
        return {str(name): item for name, item in plain.items()} if isinstance(plain, dict) else {}

    def inner(self, key: str) -> ConfigReader:
        """A reader of the block ``key`` in this one; of an empty one where absent."""
        return ConfigReader(self._block(key), self.trainer, f"{self.block}.{key}")

    def _block(self, key: str) -> DictConfig:
        value = self._get(key, DictConfig({}))
        if not isinstance(value, DictConfig):
            raise self._wrong(key, value, "keys with values")
        return value
