"""What a handler is given and what it answers."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from appfl_gc.protocol.call import Call
from appfl_gc.protocol.errors import ErrorReport
from appfl_gc.protocol.measures import Measures
from appfl_gc.protocol.reference import Ref
from appfl_gc.protocol.seeds import derive_seed
from appfl_gc.protocol.source import Source
from appfl_gc.protocol.wire import Json, as_object
from appfl_gc.site.paths import SitePaths
from appfl_gc.site.policy import SitePolicy
from appfl_gc.site.session import SessionCache
from appfl_gc.site.watch import Watch

if TYPE_CHECKING:
    from appfl_gc.payload.codec import Encoding


@dataclass
class Stopwatch:
    """Adds up what a call costs, in seconds of the monotonic clock."""

    measures: Measures = field(default_factory=Measures)

    @contextlib.contextmanager
    def measure(self, name: str) -> Iterator[None]:
        """Add the time spent in the block to ``load``, ``train``, ``encode`` or ``transfer``."""
        start = time.perf_counter()
        try:
            yield
        finally:
            spent = getattr(self.measures, name) + time.perf_counter() - start
            self.measures = replace(self.measures, **{name: spent})

    def count_steps(self, steps: int, validation: float) -> None:
        """Note the local steps that really ran, and that ``validation`` seconds of ``train`` were none of them."""
        part = min(validation, self.measures.train)
        self.measures = replace(
            self.measures,
            steps=steps,
            train=self.measures.train - part,
            validate=self.measures.validate + part,
        )


@dataclass(frozen=True)
class CallContext:
    """One call at a site, with what the site has for it.

    Attributes:
        watch: whether the call's work is still to go on; without a word from the caller it is.
    """

    call: Call
    paths: SitePaths
    policy: SitePolicy
    session: SessionCache
    logger: logging.Logger
    stopwatch: Stopwatch
    watch: Watch = field(default_factory=Watch)

    @property
    def config(self) -> Mapping[str, Any]:
        """The client's effective configuration, as the server merged it."""
        return as_object(self.call.args.get("config", {}), "The configuration")

    @property
    def sources(self) -> dict[str, Source]:
        """The user's source files of this call, by kind."""
        items = as_object(self.call.args.get("sources", {}), "The sources")
        return {kind: Source.from_json(item) for kind, item in items.items()}

    def seed(self, purpose: str, round_: int | None = None) -> int:
        """A seed for one purpose of this client, of this call's round unless ``round_`` is given."""
        identity = self.call.identity
        return derive_seed(
            self.call.seed, identity.round if round_ is None else round_, identity.client, purpose
        )


@dataclass(frozen=True)
class Answer:
    """What a handler returns; the rest of the reply is made from the call.

    Attributes:
        values: metrics and counts.
        payloads: references to tensors.
        tensors: the update, which is yet to be put into the granted store. An answer with tensors goes to the
            outbox, so that a later attempt is answered without training again.
        measures: what it cost; None: what the call's stopwatch says.
        error: why there is less than was asked for, although something was done.
    """

    values: Mapping[str, Json] = field(default_factory=dict)
    payloads: Mapping[str, Ref] = field(default_factory=dict)
    tensors: Encoding | None = None
    measures: Measures | None = None
    error: ErrorReport | None = None
