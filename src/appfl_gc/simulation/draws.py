"""Durations that differ from dispatch to dispatch, drawn from what is computed and never from when."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Protocol

from appfl_gc.protocol.errors import UserCodeError
from appfl_gc.protocol.seeds import derive_seed

_STANDARD = NormalDist()
_BITS = 53
MOST = 1e9
"""No duration is longer, in seconds: thirty years."""

MOST_SIGMA = 10.0
"""No logarithm spreads wider."""

LEAST_OF_NORMAL = 0.05
"""A normal draw is never less than this share of its mean: no duration is negative, and none is nothing."""


@dataclass(frozen=True)
class Chance:
    """One draw: whose, of which dispatch, for what; a pure function of its fields.

    Attributes:
        seed: of the simulation.
        client: the client's id.
        dispatch: the client's dispatch number; 0 for what is drawn once for a client.
        purpose: what is drawn, such as ``queue``.
    """

    seed: int
    client: str
    dispatch: int
    purpose: str

    @property
    def uniform(self) -> float:
        """A number in (0, 1)."""
        return ((derive_seed(self.seed, self.dispatch, self.client, self.purpose) >> 10) + 0.5) / (1 << _BITS)

    @property
    def normal(self) -> float:
        """A number of the standard normal distribution."""
        return _STANDARD.inv_cdf(self.uniform)


class Draw(Protocol):
    """A distribution of non-negative numbers."""

    def draw(self, chance: Chance) -> float:
        """The number for ``chance``."""


@dataclass(frozen=True)
class Constant:
    """Always ``value``, from 0 to ``MOST``. Raises ``UserCodeError`` for another."""

    value: float

    def __post_init__(self) -> None:
        _check(self, "value", self.value)

    def draw(self, chance: Chance) -> float:
        """See ``Draw``."""
        return self.value


@dataclass(frozen=True)
class Normal:
    """Normal with ``mean`` and standard deviation ``sigma``, cut off at ``LEAST_OF_NORMAL`` of the mean.

    Raises ``UserCodeError`` if one of them is negative or above ``MOST``.
    """

    mean: float
    sigma: float

    def __post_init__(self) -> None:
        _check(self, "mean", self.mean)
        _check(self, "sigma", self.sigma)

    def draw(self, chance: Chance) -> float:
        """See ``Draw``."""
        return max(LEAST_OF_NORMAL * self.mean, self.mean + self.sigma * chance.normal)


@dataclass(frozen=True)
class Exponential:
    """Exponential with ``mean``. Raises ``UserCodeError`` if that is negative or above ``MOST``."""

    mean: float

    def __post_init__(self) -> None:
        _check(self, "mean", self.mean)

    def draw(self, chance: Chance) -> float:
        """See ``Draw``."""
        return -self.mean * math.log1p(-chance.uniform)


@dataclass(frozen=True)
class Lognormal:
    """Lognormal with arithmetic ``mean``; ``sigma`` is the standard deviation of the logarithm.

    The median is ``mean * exp(-sigma ** 2 / 2)``. Raises ``UserCodeError`` if one is negative, the
    mean above ``MOST`` or ``sigma`` above ``MOST_SIGMA``.
    """

    mean: float
    sigma: float

    def __post_init__(self) -> None:
        _check(self, "mean", self.mean)
        _check(self, "sigma", self.sigma, MOST_SIGMA)

    def draw(self, chance: Chance) -> float:
        """See ``Draw``."""
        return self.mean * math.exp(self.sigma * chance.normal - self.sigma**2 / 2)


@dataclass(frozen=True)
class Samples:
    """Measured values, taken in the order of dispatches and from the start again when they have run out.

    Raises ``UserCodeError`` if there is none, or one is negative or above ``MOST``.
    """

    values: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.values:
            raise UserCodeError("Samples of a duration need at least one value.")
        for value in self.values:
            _check(self, "value", value)

    def draw(self, chance: Chance) -> float:
        """See ``Draw``."""
        return self.values[(chance.dispatch - 1) % len(self.values)]


@dataclass(frozen=True)
class Jittered:
    """``base`` times a lognormal factor of mean 1; ``sigma`` is the standard deviation of its logarithm."""

    base: Draw
    sigma: float

    def __post_init__(self) -> None:
        _check(self, "sigma", self.sigma, MOST_SIGMA)

    def draw(self, chance: Chance) -> float:
        """See ``Draw``."""
        jitter = Chance(chance.seed, chance.client, chance.dispatch, f"{chance.purpose} jitter")
        return self.base.draw(chance) * Lognormal(1.0, self.sigma).draw(jitter)


def _check(what: object, name: str, value: float, most: float = MOST) -> None:
    if not 0 <= value <= most:
        raise UserCodeError(
            f"The {name} of a {type(what).__name__.lower()} distribution is {value}; it must be from 0 to {most:g}."
        )
