"""The settings of an endpoint's engine: their names, their kinds, and what a value must look like."""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from appfl_gc.protocol.errors import UsageError
from appfl_gc.protocol.wire import Json, clean_text

MAX_TEXT = 4000


class Provider(str, enum.Enum):
    """What starts workers, by parsl's class name."""

    LOCAL = "LocalProvider"
    PBS = "PBSProProvider"
    SLURM = "SlurmProvider"

    @property
    def batch(self) -> bool:
        """Whether workers run in jobs, on other nodes than the agent."""
        return self is not Provider.LOCAL


class Kind(enum.Enum):
    """What a value may look like; the value is the JSON schema that the agent checks."""

    NAME = "name"
    COUNT = "count"
    POSITIVE = "positive"
    WALLTIME = "walltime"
    DIRECTIVES = "directives"
    LINE = "line"
    SCRIPT = "script"
    ACCELERATORS = "accelerators"


# `$(?!\n)`: Python's `$` alone also accepts a line end after the text.
_PATTERNS: Mapping[Kind, str] = MappingProxyType(
    {
        Kind.NAME: r"^[A-Za-z0-9_.@-]{1,200}$(?!\n)",
        Kind.WALLTIME: r"^[0-9]{1,4}:[0-5][0-9]:[0-5][0-9]$(?!\n)",
        Kind.DIRECTIVES: r"^(#(PBS|SBATCH) [^\n]*\n)*(#(PBS|SBATCH) [^\n]*)?$(?!\n)",
        Kind.LINE: r"^[A-Za-z0-9_.:=+,@/ -]*$(?!\n)",
    }
)
_EXPECTED: Mapping[Kind, str] = MappingProxyType(
    {
        Kind.NAME: "a name of letters, digits and . _ @ -, on one line",
        Kind.COUNT: "a whole number of 0 or more",
        Kind.POSITIVE: "a whole number of 1 or more",
        Kind.WALLTIME: "a time as HH:MM:SS, days as hours",
        Kind.DIRECTIVES: "lines that begin with `#PBS ` or `#SBATCH `",
        Kind.LINE: "one line of letters, digits, spaces and . : = + , @ / _ -",
        Kind.SCRIPT: f"at most {MAX_TEXT} printable characters",
        Kind.ACCELERATORS: "the number of accelerators of a node, or their names",
    }
)


@dataclass(frozen=True)
class Knob:
    """One setting of the engine.

    Attributes:
        name: the option and the template variable.
        kind: what a value may look like.
        help: one line for a person.
        providers: where the setting has an effect.
        code: whether the value reaches a shell or the scheduler as text.
    """

    name: str
    kind: Kind
    help: str
    providers: frozenset[Provider]
    code: bool = False

    def check(self, value: object) -> Json:
        """``value`` if it fits; raises ``UsageError`` with what was expected."""
        if not _fits(self.kind, value):
            shown = clean_text(repr(value), 100)
            raise UsageError(
                f"The endpoint's setting `{self.name}` is {shown}; expected {_EXPECTED[self.kind]}.",
                f"{self.help}.",
            )
        return value  # type: ignore[return-value]  # _fits admits JSON types only

    @property
    def schema(self) -> dict[str, Json]:
        """The JSON schema for a submitter's value."""
        # A list of names is for the owner only: the agent's quoting would leave quotes in each name.
        if self.kind in (Kind.COUNT, Kind.POSITIVE, Kind.ACCELERATORS):
            smallest = 0 if self.kind is Kind.COUNT else 1
            return {"type": "integer", "minimum": smallest, "description": self.help}
        text: dict[str, Json] = {"type": "string", "maxLength": MAX_TEXT, "description": self.help}
        if self.kind in _PATTERNS:
            text["pattern"] = _PATTERNS[self.kind]
        return text


def _fits(kind: Kind, value: object) -> bool:
    if kind in (Kind.COUNT, Kind.POSITIVE):
        return _whole(value, 0 if kind is Kind.COUNT else 1)
    if kind is Kind.ACCELERATORS:
        if isinstance(value, list | tuple):
            return bool(value) and all(_fits(Kind.NAME, name) for name in value)
        return _whole(value, 1)
    if not isinstance(value, str) or len(value) > MAX_TEXT:
        return False
    # Tabs and line ends are checked by the patterns; YAML can't hold the other control characters.
    if not all(c.isprintable() or c in "\n\t" for c in value):
        return False
    return kind not in _PATTERNS or re.search(_PATTERNS[kind], value) is not None


def _whole(value: object, smallest: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= smallest


_ALL = frozenset(Provider)
_BATCH = frozenset({Provider.PBS, Provider.SLURM})
_PBS = frozenset({Provider.PBS})

KNOBS: Mapping[str, Knob] = MappingProxyType(
    {
        knob.name: knob
        for knob in (
            Knob("account", Kind.NAME, "The project that a job is charged to", _BATCH),
            Knob("queue", Kind.NAME, "The queue, or the partition of Slurm", _BATCH),
            Knob("walltime", Kind.WALLTIME, "How long a job may run, HH:MM:SS", _BATCH),
            Knob("nodes_per_block", Kind.POSITIVE, "Nodes of a job", _ALL),
            Knob("init_blocks", Kind.COUNT, "Jobs submitted when the engine starts", _ALL),
            Knob("min_blocks", Kind.COUNT, "Jobs that are kept although there is no work", _ALL),
            Knob("max_blocks", Kind.POSITIVE, "Jobs at the same time at most", _ALL),
            Knob("cpus_per_node", Kind.POSITIVE, "Cores to ask for on each node", _BATCH),
            Knob("select_options", Kind.LINE, "What PBS select adds to a node, as ngpus=4", _PBS, True),
            Knob("scheduler_options", Kind.DIRECTIVES, "Lines for the head of the job script", _BATCH, True),
            Knob("worker_init", Kind.SCRIPT, "Shell lines that a worker's node runs first", _ALL, True),
            Knob("max_workers_per_node", Kind.POSITIVE, "Workers on each node", _ALL),
            Knob("accelerators", Kind.ACCELERATORS, "Accelerators of a node; each worker sees one", _ALL),
            Knob("max_idletime", Kind.POSITIVE, "Seconds until a job without work is given back", _ALL),
            Knob("launcher", Kind.NAME, "The parsl launcher that starts workers on the nodes", _BATCH),
            Knob("launcher_overrides", Kind.LINE, "Arguments for the launcher's command", _BATCH, True),
            Knob(
                "interface", Kind.NAME, "The network interface that compute nodes reach the agent by", _BATCH
            ),
        )
    }
)
"""Every setting by name."""
