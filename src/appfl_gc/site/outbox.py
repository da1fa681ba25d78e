"""The outbox: answers kept at the site until a later call acknowledges them.

An answer is stored under its call's identity before it leaves, so that nothing computed is lost with the
server, and a later attempt of the same call is answered without training again. An update on its way into a
store that others run is kept beside it.
"""

from __future__ import annotations

import json
import logging
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from appfl_gc.payload.files import replacing, write_all
from appfl_gc.protocol.call import Call
from appfl_gc.protocol.errors import TransferError
from appfl_gc.protocol.free_keys import is_free
from appfl_gc.protocol.measures import Measures
from appfl_gc.protocol.reference import HELD, SEALED, Ref
from appfl_gc.protocol.reply import Reply
from appfl_gc.protocol.wire import Json, as_object, load_json
from appfl_gc.site.claims import SUFFIX
from appfl_gc.site.paths import digest
from appfl_gc.site.policy import OutboxLimits
from appfl_gc.site.roles.context import Answer
from appfl_gc.site.room import Room

if TYPE_CHECKING:
    from appfl_gc.payload.encoded import Encoded


@dataclass(frozen=True)
class Kept:
    """An encoded update in the outbox, as it is before encryption."""

    path: Path
    reference: Ref


@dataclass(frozen=True)
class Stored:
    """An answer in the outbox, with its update where that is kept, and the attempt that was answered."""

    answer: Answer
    kept: Kept | None
    attempt: int

    @property
    def held(self) -> bool:
        """Whether the update lies here and in no store."""
        return any(ref.scheme == HELD for ref in self.answer.payloads.values())


_OURS = re.compile(rf"(\d{{8,}})-.*(\.json|\.payload|{re.escape(SUFFIX)})", re.ASCII)
"""Names of files that an outbox makes; they begin with the round."""
_OF_THE_ATTEMPT = {"acknowledged", "grant", "mailbox", "compute_again", "of"}


def request_of(call: Call) -> str:
    """What was asked, without what differs between attempts: identity, nonce, acknowledgements, locators.

    Keys that a result does not depend on may differ, too: whoever resumes a run with another ``on_walltime`` wants the
    task to go on from its checkpoint.
    """
    args = {name: value for name, value in call.args.items() if name not in _OF_THE_ATTEMPT}
    config = args.get("config")
    train = config.get("train_configs") if isinstance(config, dict) else None
    if isinstance(config, dict) and isinstance(train, dict):
        computed = {key: value for key, value in train.items() if not is_free(key)}
        args["config"] = {**config, "train_configs": computed}
    sources = args.get("sources")
    if isinstance(sources, dict):
        # What a file is called where it came from is for messages.
        args["sources"] = {kind: _without_filename(source) for kind, source in sources.items()}
    # A model that is encrypted anew has another checksum, although it is the same.
    payloads = {name: ref.checksum for name, ref in call.payloads.items() if not ref.codec.endswith(SEALED)}
    return digest(json.dumps([call.channel, args, payloads, call.seed, call.threads], sort_keys=True))


def _without_filename(source: Json) -> Json:
    if not isinstance(source, dict):
        return source
    return {name: value for name, value in source.items() if name != "filename"}


@dataclass(frozen=True)
class Outbox:
    """Stored answers in ``directory``: one folder a run, one a client, one or two files a call.

    Attributes:
        directory: of all of them.
        limits: of all of them together.
        logger: hears which ones went to make room.
    """

    directory: Path
    limits: OutboxLimits
    logger: logging.Logger | None = None

    def _client(self, call: Call) -> Path:
        return self.directory / digest(call.identity.run) / digest(call.identity.client)

    def _file(self, call: Call) -> Path:
        return self._client(call) / f"{call.identity.round:08d}-{digest(call.channel)}.json"

    def claims(self, call: Call) -> Path:
        """What the names of claims on the work of ``call`` begin with: they lie beside the answer, and go like it."""
        return self._file(call).with_suffix(f".{request_of(call)}")

    def _make(self, client: Path) -> None:
        """Make a client's directory and those above it, for this user alone."""
        for directory in (self.directory, client.parent, client):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)

    def forget(self, call: Call) -> None:
        """Forget the answer to ``call``."""
        self._file(call).unlink(missing_ok=True)
        self._file(call).with_suffix(".payload").unlink(missing_ok=True)

    def keep(self, call: Call, payload: Encoded) -> Kept:
        """Write ``payload`` beside the answer that ``store`` is about to get.

        Raises:
            TransferError: if there is no room for it.
        """
        from appfl_gc.payload.checksum import Checksum
        from appfl_gc.payload.files import write_chunks

        path, running = self._file(call).with_suffix(".payload"), Checksum()
        try:
            self._make(path.parent)
            with replacing(path, fsync=False) as fd:
                write_chunks(fd, payload.chunks(), running.update)
        except OSError as error:
            raise TransferError(
                f"The site's outbox {self.directory} can't keep the update ({payload.size:,} bytes): "
                f"{error.strerror}.",
                "Make room there, or name another directory with APPFL_GC_SITE_STATE in worker_init.",
            ) from None
        return Kept(path, Ref(HELD, path.name, payload.size, str(running), payload.codec))

    def store(self, call: Call, answer: Answer, kept: Kept | None = None) -> None:
        """Keep ``answer``; written aside and renamed, so that a reader sees all or nothing."""
        path = self._file(call)
        first = not path.exists()
        self._make(path.parent)
        measures = answer.measures or Measures()
        reply = Reply(call.identity, call.nonce, answer.values, answer.payloads, measures)
        entry: dict[str, Json] = {
            "request": request_of(call),
            "reply": reply.to_json(),
            "kept": None if kept is None else kept.reference.to_json(),
        }
        with replacing(path, fsync=False) as fd:
            write_all(fd, memoryview(json.dumps(entry).encode()))
        if kept is None:
            path.with_suffix(".payload").unlink(missing_ok=True)
        # Walking through every reply of every client costs more than a small call, so only when they add up.
        if first or any(other != path for other in path.parent.glob("*.json")):
            self._make_room(keep=path)

    def find(self, call: Call) -> Stored | None:
        """The answer to an earlier attempt of ``call`` with the same request."""
        found = self._read(call)
        return None if found is None or found[0] != request_of(call) else found[1]

    def find_any(self, call: Call) -> Stored | None:
        """The answer to a call of this identity and channel, whatever was asked."""
        found = self._read(call)
        return None if found is None else found[1]

    def _read(self, call: Call) -> tuple[Json, Stored] | None:
        path = self._file(call)
        try:
            entry = as_object(load_json(path.read_text()), "The entry")
            reply = Reply.from_json(entry.get("reply"))
            kept = None if entry.get("kept") is None else Ref.from_json(entry["kept"])
        except (OSError, ValueError):  # also what is no text
            return None
        file = path.with_suffix(".payload")
        there = kept is not None and file.is_file() and file.stat().st_size == kept.size
        answer = Answer(reply.values, reply.payloads, measures=reply.measures)
        stored = Stored(
            answer, Kept(file, kept) if there and kept is not None else None, reply.identity.attempt
        )
        # An update that is neither in a store nor here any more has to be made again.
        return None if stored.held and stored.kept is None else (entry.get("request"), stored)

    def acknowledge(self, call: Call, up_to_round: int) -> None:
        """Forget this client's answers of rounds up to ``up_to_round``: the server has them."""
        directory = self._client(call)
        for path in directory.glob("*.*") if directory.is_dir() else ():
            found = _OURS.fullmatch(path.name)
            if found is not None and int(found.group(1)) <= up_to_round:
                path.unlink(missing_ok=True)

    def _make_room(self, keep: Path) -> None:
        loss = "A call whose answer is gone is worked on anew if it comes again."
        room = Room(self.directory, "answers that no server has acknowledged", loss, ".json", ".payload")
        room.keep_within(self.limits, keep, self.logger)
