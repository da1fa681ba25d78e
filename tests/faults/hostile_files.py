"""What a broken or hostile site runs: a dataset and a trainer that do what a client's configuration says.

The dataset function runs in the site's worker, where it can alter everything: from there it forges replies.
"""

from __future__ import annotations

DATASET = """\
import base64
import json
import pickle

import torch
import xxhash
from torch.utils.data import TensorDataset

from appfl_gc.protocol.reply import Reply


class Bomb:
    def __init__(self, canary):
        self.canary = canary

    def __reduce__(self):
        return open, (self.canary, "w")


def deep(levels):
    return [deep(levels - 1)] if levels else 0


def locator(ref, data):
    ref["locator"] = base64.b64encode(data).decode()
    ref["checksum"] = "xxh3-128:" + xxhash.xxh3_128(data).hexdigest()


def forge(attack, canary, fields, first):
    values, ref = fields["values"], fields["payloads"]["update"]
    if attack == "another nonce":
        fields["nonce"] = "0" * 32
    elif attack == "another run":
        fields["identity"]["run"] = "2020-01-01-00-00-00-000000"
    elif attack == "another client":
        fields["identity"]["client"] = "Client1"
    elif attack == "replays its reply of round 1":
        return first
    elif attack == "another wire version":
        fields["wire"] = 99
    elif attack == "forgotten without end":
        fields["error"] = {"error_class": "forgotten", "message": "Ask again.", "hint": "", "frames": [], "trace": ""}
    elif attack == "no reply":
        return "I am a reply"
    elif attack == "many metrics":
        values["metrics"] = {f"metric {number}": number for number in range(50_000)}
    elif attack == "deep metrics":
        values["metrics"] = deep(100)
    elif attack == "odd metrics":
        values["metrics"] = {"\\x1b[2J": 1, "\\ud800": 2, "huge": 10**400, "text": "x" * 10**6, "fine": 1.5}
    elif attack == "examples":
        values["sample_size"] = 10**15
    elif attack == "negative examples":
        values["sample_size"] = -5
    elif attack == "payload of another":
        ref |= {"scheme": "file", "locator": "../journal.jsonl"}
    elif attack == "no payload":
        del fields["payloads"]["update"]
    elif attack == "pickle":
        locator(ref, pickle.dumps(Bomb(canary)).ljust(ref["size"], b"\\0"))
    elif attack == "other bytes":
        data = bytearray(base64.b64decode(ref["locator"]))
        data[-1] ^= 1
        ref["locator"] = base64.b64encode(data).decode()
    return fields


def install(client, attack, canary):
    honest, seen = Reply.to_json, {}

    def to_json(self):
        fields, round_ = honest(self), self.identity.round
        if self.identity.client != client or not round_ or self.error is not None:
            return fields
        seen[round_] = json.dumps(fields)
        return forge(attack, canary, fields, json.loads(seen[1]))

    Reply.to_json = to_json


INSTALLED = set()


def load(client_id, samples=64, attack="", canary="", forged=False):
    if forged and client_id not in INSTALLED:
        INSTALLED.add(client_id)
        install(f"Client{client_id + 1}", attack, canary)
    generator = torch.Generator().manual_seed(client_id)
    x = torch.randn(samples, 8, generator=generator)
    data = TensorDataset(x, (x.sum(dim=1) > 0).long())
    data.attack = attack
    return data, TensorDataset(*data[:16])
"""

TRAINER = """\
import torch

from appfl_gc.site.trainer.vanilla import VanillaTrainer


class Broken(VanillaTrainer):
    def train(self, **kwargs):
        super().train(**kwargs)
        self.attack = self.train_dataset.attack
        if self.attack == "fails in round 2" and kwargs["round"] == 2:
            raise RuntimeError("as it was asked to")
        if self.attack == "endless prints":
            for number in range(100_000):
                print("print", number)
        if self.attack == "endless logs":
            for number in range(20_000):
                self.logger.info("line %d", number)
            self.logger.info("x" * 10_000_000)

    def get_parameters(self):
        state = super().get_parameters()
        name = "layers.0.weight"
        if self.attack == "not finite":
            state[name] = torch.full_like(state[name], float("nan"))
        if self.attack == "another shape":
            state[name] = state[name].t().contiguous()
        if self.attack == "another dtype":
            state[name] = state[name].double()
        if self.attack == "a tensor less":
            del state[name]
        if self.attack == "a tensor more":
            state["extra"] = torch.zeros(3)
        if self.attack == "absurd norm":
            state[name] = state[name] * 1e6
        return state
"""
