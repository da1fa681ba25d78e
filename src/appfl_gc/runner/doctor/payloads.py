"""Sizes of what a run would send, truly encoded, against each limit on the way; and where payloads travel."""

from __future__ import annotations

import importlib.util
import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from appfl_gc.config import LOCAL, Federation
from appfl_gc.config.schema.block import thaw
from appfl_gc.protocol.errors import AppflGcError, ErrorClass
from appfl_gc.runner.doctor.row import Row, Subject, named

if TYPE_CHECKING:
    from appfl_gc.payload.codec import Encoding

WEIGHTS_KEPT = 4
"""Besides a file for each client's update: global model, its successor, the last and the best checkpoint."""


@dataclass(frozen=True)
class Limits:
    """What fits, in bytes.

    Attributes:
        configured: a payload inside a message, raw, as ``inline_limit_bytes`` says.
        carried: the same, as far as requests and results carry it.
        request: one request.
        result: the text of one result.
    """

    configured: int
    carried: int
    request: int
    result: int

    @property
    def inline(self) -> int:
        """A payload inside a message."""
        return min(self.configured, self.carried)


@dataclass(frozen=True)
class Sizes:
    """What a run would send, in bytes.

    Attributes:
        model: the encoded global model; an update has the same size but for a few bytes.
        requests: a training call of each client at an endpoint, by client; empty if the model does not fit in one.
        reply: the text of its reply, without log lines.
    """

    model: int
    requests: Mapping[str, int]
    reply: int


def limits_of(federation: Federation) -> Limits:
    """The limits on the way to Globus Compute endpoints and back."""
    # The SDK takes half a second to import.
    from appfl_gc.control.globus_compute.plane import RESULT_LIMIT, PlaneSettings

    control = federation.server_configs.control_configs
    carried = PlaneSettings(request_limit_bytes=control.request_limit_bytes).inline_limit
    return Limits(control.inline_limit_bytes, carried, control.request_limit_bytes, RESULT_LIMIT)


def size_rows(
    subject: Subject, sizes: Sizes | AppflGcError | None, limits: Limits, without_store: Sequence[str]
) -> Iterator[Row]:
    """Rows about what travels to and from Globus Compute endpoints.

    Args:
        subject: of the rows.
        sizes: what would be sent; None: torch is not here.
        limits: what fits.
        without_store: clients whose models have to fit into messages.
    """
    if sizes is None:
        yield subject.skipped(
            "model", "The model can't be built here: torch is not installed.", "pip install torch"
        )
        return
    if isinstance(sizes, AppflGcError):
        failed = subject.failed("model", sizes)
        yield replace(
            failed, finding=f"The model can't be built here, so its size is not known. {failed.finding}"
        )
        return
    if sizes.model > limits.inline and without_store:
        yield _too_large(subject, sizes.model, limits, without_store)
        return
    if sizes.model > limits.inline:
        yield subject.ok(
            "model",
            f"{sizes.model:,} bytes encoded: more than the {limits.inline:,} that fit inside a message, so it "
            "travels by the configured store.",
        )
        return
    yield subject.ok(
        "model", f"{sizes.model:,} bytes encoded, of {limits.inline:,} that fit inside a message."
    )
    yield _request(subject, sizes, limits)
    what = f"An update's reply has {sizes.reply:,} bytes of text and its log lines; agents carry {limits.result:,}."
    if sizes.reply > limits.result:
        yield subject.fail("reply", what, "Use a smaller model.", ErrorClass.USER)
    else:
        yield subject.ok("reply", what)


def _too_large(subject: Subject, size: int, limits: Limits, without_store: Sequence[str]) -> Row:
    found = (
        f"The encoded model has {size:,} bytes; inside a message it may have {limits.inline:,}, and these clients have "
        f"no store for larger ones: {named(without_store)}."
    )
    if size <= limits.carried:
        fix = f"Set server_configs.control_configs.inline_limit_bytes to {size} or more; {limits.carried} would work."
    else:
        fix = "Configure comm_configs.s3_configs or comm_configs.proxystore_configs (docs: Moving models)."
    return subject.fail("model", found, fix, ErrorClass.USER)


def _request(subject: Subject, sizes: Sizes, limits: Limits) -> Row:
    client = max(sizes.requests, key=lambda name: sizes.requests[name])
    largest = sizes.requests[client]
    what = f"The largest request has {largest:,} bytes ({client}); the service takes {limits.request:,}."
    if largest <= limits.request:
        return subject.ok("request", what)
    fix = "Use a smaller model, or smaller source files: they travel in the request too."
    return subject.fail("request", what, fix, ErrorClass.USER)


def measure(federation: Federation, limits: Limits) -> Sizes | None:
    """Build the model as a run does, and its calls; None without torch.

    Raises:
        AppflGcError: if the model can't be built.
    """
    if importlib.util.find_spec("torch") is None:
        return None
    from appfl_gc.payload.codec import Encoding
    from appfl_gc.runner.server_sources import ServerSources
    from appfl_gc.site.building import build_model
    from appfl_gc.site.source_loader import SourceLoader

    first = federation.clients[0]
    with tempfile.TemporaryDirectory(prefix="appfl_gc-doctor-") as directory:
        sources = ServerSources(SourceLoader(Path(directory)), dict(first.sources))
        model = build_model(first.model_configs.plain(), sources.load("model"))
        encoding = Encoding(model.state_dict())
        if encoding.size > limits.inline:
            return Sizes(encoding.size, {}, 0)
        return _messages(federation, encoding)


def _messages(federation: Federation, encoding: Encoding) -> Sizes:
    """The sizes of training calls and of a reply that carry ``encoding``."""
    from appfl_gc.control.globus_compute.sending.packing import RESERVE, call_bytes
    from appfl_gc.payload.stores import InlineStore, Stores
    from appfl_gc.protocol.reply import Reply
    from appfl_gc.runner.calls import CallFactory

    stores = Stores(InlineStore(encoding.size))
    reference = stores.put(encoding)
    grant = stores.grant([reference], encoding.size)
    remote = [client for client in federation.clients if client.endpoint_id != LOCAL]
    seed = federation.clients[0].model_configs.seed
    calls = CallFactory(
        "2026-01-01-00-00-00-000000",
        seed,
        {client.client_id: client.train_configs.num_threads or 0 for client in remote},
        encoding.layout.spec,
        {},
        device_fallback=False,
    )
    requests, reply = {}, 0
    for client in remote:
        call = calls.train(client, 1, 0, {}, acknowledged=0, state_of=0)
        call = replace(call, payloads={"model": reference}, args={**call.args, "grant": grant})
        settings = client.settings
        beside = [thaw(settings.user_endpoint_config), thaw(settings.resource_specification)]
        requests[client.client_id] = (
            call_bytes(call) + RESERVE + sum(len(json.dumps(item)) for item in beside if item)
        )
        answer = Reply(call.identity, call.nonce, payloads={"update": reference})
        reply = max(reply, len(json.dumps(answer.to_json())))
    return Sizes(encoding.size, requests, reply)


def file_store_row(subject: Subject, output: Path, model_bytes: int | None, clients: int) -> Row:
    """The directory where a run's files go, and local clients' payloads.

    Args:
        subject: of the row.
        output: ``logging_output_dirname``; it need not be there yet.
        model_bytes: of the encoded model; None where it is not known.
        clients: how many there are.
    """
    place = output.absolute()
    while not place.exists():
        place = place.parent
    problem = _not_writable(place)
    if problem:
        return subject.fail(
            "files",
            f"The run directory can't be made in {output}: {problem}",
            "Set server_configs.logging_output_dirname to a directory that you can write.",
            ErrorClass.STORAGE,
        )
    free = shutil.disk_usage(place).free
    needed = 0 if model_bytes is None else (clients + WEIGHTS_KEPT) * model_bytes
    text = f"{output} can be written; {free / 1e9:.1f} GB are free."
    if free < needed:
        return subject.warn(
            "files",
            f"{text} Models and updates take up to {needed / 1e9:.1f} GB.",
            "Make room, or set server_configs.logging_output_dirname to a larger file system.",
        )
    return subject.ok("files", text)


def _not_writable(directory: Path) -> str:
    if not directory.is_dir():
        return f"{directory} is a file."
    try:
        with tempfile.TemporaryFile(dir=directory):
            return ""
    except OSError as error:
        return f"{error.strerror or error}."
