"""What a run is made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from appfl_gc.aggregator.base import Aggregator
from appfl_gc.aggregator.user_class import UserClassAggregator
from appfl_gc.config import ClientConfig
from appfl_gc.control.plane import Capabilities
from appfl_gc.payload.arena import Arena
from appfl_gc.runner.calls import CallFactory
from appfl_gc.runner.clock import RunClock
from appfl_gc.runner.courier import Courier
from appfl_gc.runner.dispatcher import Dispatcher
from appfl_gc.runner.global_model import GlobalModel
from appfl_gc.runner.inbox import Inbox
from appfl_gc.runner.intake import Intake
from appfl_gc.runner.journal import Journal
from appfl_gc.runner.judge import Judge
from appfl_gc.runner.ledger import Ledger
from appfl_gc.runner.outgoing import Outgoing
from appfl_gc.runner.recorder import Recorder
from appfl_gc.runner.rounds import Rounds
from appfl_gc.runner.routes import Routes
from appfl_gc.scheduler.base import Scheduler


@dataclass(frozen=True)
class Parts:
    """What a run is made of; whoever made it closes it. ``capabilities`` are those of each client's control plane."""

    clients: Mapping[str, ClientConfig]
    capabilities: Mapping[str, Capabilities]
    calls: CallFactory
    inbox: Inbox
    dispatcher: Dispatcher
    routes: Routes
    arena: Arena
    scheduler: Scheduler
    aggregator: Aggregator | UserClassAggregator
    judge: Judge
    model: GlobalModel
    courier: Courier
    outgoing: Outgoing
    intake: Intake
    rounds: Rounds
    journal: Journal
    recorder: Recorder
    clock: RunClock
    ledger: Ledger
