"""The outbox: replies kept at the site until a later call acknowledges them.

A reply is stored under its call's identity before it leaves, so that nothing computed is lost with the
server, and a later attempt of the same call is answered without training again.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from appfl_gc.protocol.call import Call
from appfl_gc.protocol.reply import Reply
from appfl_gc.protocol.wire import WireError, load_json
from appfl_gc.site.policy import OutboxLimits


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]


def _request(call: Call) -> str:
    """What was asked, without what differs between attempts: identity, nonce, acknowledgements, locators."""
    args = {
        name: value
        for name, value in call.args.items()
        if name not in {"acknowledged", "grant", "compute_again"}
    }
    payloads = {name: ref.checksum for name, ref in call.payloads.items()}
    return _digest(json.dumps([call.channel, args, payloads, call.seed, call.threads], sort_keys=True))


@dataclass(frozen=True)
class Outbox:
    """Stored replies in ``directory``: one folder a run, one a client, one file a call."""

    directory: Path
    limits: OutboxLimits

    def _client(self, call: Call) -> Path:
        return self.directory / _digest(call.identity.run) / _digest(call.identity.client)

    def _file(self, call: Call) -> Path:
        return self._client(call) / f"{call.identity.round:08d}-{_digest(call.channel)}.json"

    def store(self, call: Call, reply: Reply) -> None:
        """Keep ``reply``; written aside and renamed, so that a reader sees all or nothing."""
        path = self._file(call)
        first = not path.parent.is_dir()
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_suffix(f".{os.getpid()}.tmp")
        aside.write_text(json.dumps({"request": _request(call), "reply": reply.to_json()}))
        aside.replace(path)
        # Walking through every reply of every client costs more than a small call, so only when they add up.
        if first or any(other != path for other in path.parent.glob("*.json")):
            self._enforce_limits(keep=path)

    def find(self, call: Call) -> Reply | None:
        """The reply to an earlier attempt of ``call`` with the same request, addressed to this attempt."""
        try:
            stored = load_json(self._file(call).read_text())
            if not isinstance(stored, dict) or stored.get("request") != _request(call):
                return None
            reply = Reply.from_json(stored.get("reply"))
        except (OSError, WireError):
            return None
        return replace(reply, identity=call.identity, nonce=call.nonce)

    def acknowledge(self, call: Call, up_to_round: int) -> None:
        """Forget this client's replies of rounds up to ``up_to_round``: the server has them."""
        directory = self._client(call)
        for path in directory.glob("*.json") if directory.is_dir() else ():
            if int(path.name[:8]) <= up_to_round:
                path.unlink(missing_ok=True)

    def _entries(self) -> Iterator[tuple[float, int, Path]]:
        for path in self.directory.glob("*/*/*.json"):
            try:
                status = path.stat()
            except FileNotFoundError:
                continue
            yield status.st_mtime, status.st_size, path

    def _enforce_limits(self, keep: Path) -> None:
        entries = sorted(self._entries())
        total = sum(size for _, size, _ in entries)
        oldest = time.time() - self.limits.max_days * 86400
        for modified, size, path in entries:
            if path != keep and (modified < oldest or total > self.limits.max_bytes):
                path.unlink(missing_ok=True)
                total -= size
