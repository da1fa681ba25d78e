"""Training calls to a site as a server sends them, with a model small enough for the message."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from appfl_gc.payload import codec
from appfl_gc.payload.coding import Coding
from appfl_gc.payload.inline_store import InlineStore
from appfl_gc.payload.receive import state_of
from appfl_gc.protocol.call import Call
from appfl_gc.protocol.identity import CallId
from appfl_gc.protocol.reply import Reply
from appfl_gc.protocol.source import Source
from appfl_gc.protocol.update_spec import Meaning
from appfl_gc.site.entry import appfl_gc_entry, entry_requirements
from appfl_gc.site.session import SESSION
from appfl_gc.version import VERSION

REQUIRES = entry_requirements(VERSION)
MODEL = """\
import torch


def make():
    return torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.Dropout(0.2), torch.nn.Linear(6, 3))
"""
DATASET = """\
import torch
from torch.utils.data import TensorDataset


def load():
    x = torch.randn(32, 4, generator=torch.Generator().manual_seed(3))
    y = x[:, :3].argmax(1)
    return TensorDataset(x, y), TensorDataset(x[:8], y[:8])
"""
State = dict[str, torch.Tensor]
STORE = InlineStore()


def model_state(seed: int) -> State:
    """A global model."""
    draw = torch.Generator().manual_seed(seed)
    shapes = {"0.weight": (6, 4), "0.bias": (6,), "2.weight": (3, 6), "2.bias": (3,)}
    return {name: 0.3 * torch.randn(shape, generator=draw) for name, shape in shapes.items()}


@dataclass(frozen=True)
class Trained:
    """What came back from a call that succeeded."""

    state: State
    metrics: Mapping[str, Any]
    log: str


@dataclass
class Server:
    """Sends training calls of one client to the site of this machine.

    Attributes:
        trainer: name of the trainer.
        source: text of the user's trainer file, if it is one.
        configs: more keys of ``train_configs``.
        run, client: whose calls.
    """

    trainer: str
    source: str = ""
    configs: dict[str, Any] = field(default_factory=dict)
    run: str = "run"
    client: str = "A"

    def call(self, dispatch: int, state_of: int, attempt: int = 1, **args: Any) -> Call:
        """The call of a dispatch, which is sent the global model of that number."""
        train: dict[str, Any] = {
            "trainer": self.trainer, "mode": "step", "num_local_steps": 3, "train_batch_size": 8,
            "loss_fn": "CrossEntropyLoss", "optim": "SGD", "optim_args": {"lr": 0.1}, "init_penalty": 20.0,
            **self.configs,
        }  # fmt: skip
        model = model_state(dispatch)
        sources = [
            Source("model", "make", "./model.py", MODEL),
            Source("dataset", "load", "./data.py", DATASET),
        ]
        if self.source:
            sources.append(Source("trainer", self.trainer, "./trainer.py", self.source))
        grant = STORE.grant([], 0)
        return Call(
            CallId(self.run, dispatch, self.client, attempt),
            "trainer.train",
            {
                "config": {"train_configs": train, "model_configs": {}, "data_configs": {}},
                "sources": {source.kind: source.to_json() for source in sources},
                "spec": codec.spec_of(model).to_json(),
                "grant": grant,
                "state_of": state_of,
                "acknowledged": 0,
                "task": {},
                **args,
            },
            {"model": STORE.put(codec.Encoding(model))},
            nonce=f"nonce-{attempt}",
            seed=7,
            threads=1,
        )

    def train(self, dispatch: int, state_of: int, attempt: int = 1, **args: Any) -> Trained:
        """Send the call to this process, whose session is empty as that of a new worker's."""
        SESSION.clear()
        call = self.call(dispatch, state_of, attempt, **args)
        return self.read(call, json.loads(json.dumps(appfl_gc_entry(call.to_json(), REQUIRES))))

    def hello(self) -> Reply:
        """The answer to the first call, which tries what training will need."""
        train = self.call(0, 0)
        call = replace(train, channel="site.hello", payloads={})
        return Reply.from_json(appfl_gc_entry(call.to_json(), REQUIRES))

    def read(self, call: Call, answer: Any) -> Trained:
        """The reply to ``call``, which must have no error."""
        reply = Reply.from_json(answer)
        reply.check_answers(call)
        assert reply.error is None, reply.error
        spec = codec.spec_of(model_state(0))
        if self.configs.get("send_gradient"):
            spec = spec.with_meaning([tensor.name for tensor in spec.tensors], Meaning.DELTA)
        state = state_of(STORE, reply.payloads["update"], spec, Coding())
        metrics = reply.values["metrics"]
        assert isinstance(metrics, dict)
        return Trained(state, metrics, "\n".join(map(str, reply.log)))


def same(a: Trained, b: Trained) -> bool:
    """Whether two updates are the same bits."""
    return a.state.keys() == b.state.keys() and all(torch.equal(a.state[k], b.state[k]) for k in a.state)
