"""Answering one call: whatever happens in it, the answer is a reply."""

from __future__ import annotations

import contextlib
import os
import traceback
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from appfl_gc.protocol.call import Call
from appfl_gc.protocol.errors import AppflGcError, ErrorClass, ErrorReport
from appfl_gc.protocol.file_name import file_name_part
from appfl_gc.protocol.identity import CallId
from appfl_gc.protocol.reply import Reply
from appfl_gc.protocol.wire import Json, WireError, as_int, as_key, clean_text
from appfl_gc.site.audit import keep_for_review, record_decision
from appfl_gc.site.claims import Claims
from appfl_gc.site.isolation import contained
from appfl_gc.site.log import PrintedText, SiteLog
from appfl_gc.site.outbox import Outbox
from appfl_gc.site.paths import SitePaths
from appfl_gc.site.policy import PolicyError, SitePolicy, load_policy, policy_path
from appfl_gc.site.roles.channels import WORK, find_handler
from appfl_gc.site.roles.context import Answer, CallContext, Stopwatch
from appfl_gc.site.roles.task_checkpoint import checkpoint_of
from appfl_gc.site.session import SESSION
from appfl_gc.site.stopping import StopReason
from appfl_gc.site.user_errors import user_frames
from appfl_gc.site.watch import stopped, watch_over
from appfl_gc.version import VERSION


def handle(message: Any, requires: Mapping[str, str]) -> dict[str, Json]:
    """Answer the JSON form of a call with the JSON form of a reply. Never raises.

    Args:
        message: the call.
        requires: the versions of this package that the server works with, as the entry function gets them.
    """
    if not _number(requires["at_least"]) <= _number(VERSION) < _number(requires["below"]):
        wanted = f"appfl_gc>={requires['at_least']},<{requires['below']}"
        report = ErrorReport(
            ErrorClass.VERSION,
            f"The site has appfl_gc {VERSION}; the server works with {wanted}.",
            f'Run at the site, in the environment of the endpoint\'s workers: pip install "{wanted}"',
        )
        return Reply(*_recognisable(message), error=report).to_json()
    try:
        call = Call.from_json(message)
    except WireError as error:
        report = ErrorReport(ErrorClass.PROTOCOL, f"The site does not understand the call. {error}")
        return Reply(*_recognisable(message), error=report).to_json()
    # cuBLAS reads this once; without it some of its kernels give other bits each time.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    paths = SitePaths.from_environment()
    log = SiteLog(_log_path(call))
    stopwatch = Stopwatch()
    with contained():
        printed = PrintedText(log.logger)
        try:
            with (
                contextlib.redirect_stdout(printed),
                contextlib.redirect_stderr(printed),
                log.hears_everything(),
            ):
                policy = load_policy(policy_path())
                context = CallContext(call, paths, policy, SESSION, log.logger, stopwatch)
                reply = _reply(context, Outbox(paths.outbox, policy.outbox, log.logger))
        except BaseException as error:  # noqa: BLE001  sys.exit in user code must not end the worker
            reply = Reply(call.identity, call.nonce, error=_report(error, paths))
            log.logger.error("%s", reply.error)
        printed.finish()
    log.close()
    finished = Reply(
        reply.identity, reply.nonce, reply.values, reply.payloads, reply.measures, log.lines, reply.error
    )
    return finished.to_json()


def _number(version: str) -> list[int]:
    return [int("".join(c for c in part if c.isdigit()) or 0) for part in version.split(".")[:3]]


def _recognisable(message: Any) -> tuple[CallId, str]:
    """Identity and nonce of a call that is malformed elsewhere, so that its sender gets the reply."""
    try:
        return CallId.from_json(message["identity"]), as_key(message["nonce"], "The nonce")
    except (WireError, LookupError, TypeError):
        return CallId("", 0, "", 0), ""


def _reply(context: CallContext, outbox: Outbox) -> Reply:
    call = context.call
    acknowledged = call.args.get("acknowledged")
    if acknowledged is not None:
        outbox.acknowledge(call, as_int(acknowledged, "The acknowledged round"))
    _check_sources(context)
    if call.channel in WORK:
        with watch_over(call) as watch:
            answer = _answer_once(replace(context, watch=watch), outbox)
    else:
        answer = find_handler(call.channel)(context)
    measures = context.stopwatch.measures if answer.measures is None else answer.measures
    return Reply(call.identity, call.nonce, answer.values, answer.payloads, measures, error=answer.error)


def _answer_once(context: CallContext, outbox: Outbox) -> Answer:
    """Answer from the outbox; else do the work, but not while another delivery of the call does it."""
    answer = _without_work(context, outbox)
    if answer is not None:
        return answer
    with Claims(outbox.claims(context.call), context.logger).held(context.watch):
        # Whoever held the claim may have answered meanwhile.
        return _without_work(context, outbox) or _worked(context, outbox)


def _worked(context: CallContext, outbox: Outbox) -> Answer:
    answer = find_handler(context.call.channel)(context)
    if answer.tensors is None:
        return answer
    # Only what trains has torch, without which payloads can't be encoded.
    from appfl_gc.site.delivery import deliver

    answer = deliver(context, outbox, answer)
    checkpoint = checkpoint_of(context)
    if checkpoint.path.exists() and outbox.find(context.call) is not None:
        checkpoint.forget()
    return answer


def _without_work(context: CallContext, outbox: Outbox) -> Answer | None:
    """The answer to a call that nobody waits for any more, that has no time, or that was answered before."""
    reason = context.watch.reason()
    answer = None if reason is StopReason.CANCELLED else _stored(context, outbox)
    if answer is None and reason is not None:
        return Answer({"checkpoint_steps": checkpoint_of(context).kept_steps()}, error=stopped(reason))
    return answer


def _stored(context: CallContext, outbox: Outbox) -> Answer | None:
    """The answer to an earlier attempt of the call; an update that the outbox still holds is sent."""
    call = context.call
    found = outbox.find(call)
    # What an earlier attempt put into a store was of no use, but what this one did is.
    if found is None or (call.args.get("compute_again") and found.attempt < call.identity.attempt):
        return None
    context.logger.info("%s was answered before; the stored reply goes out again.", call.identity)
    if found.kept is None or not found.held:
        return found.answer
    from appfl_gc.site.delivery import deliver_kept

    return deliver_kept(context, outbox, found.answer, found.kept, call)


def _check_sources(context: CallContext) -> None:
    """Refuse the call if the policy refuses any of its sources; every decision by a policy file is audited.

    Raises:
        PolicyError: naming each refused source with its hash.
    """
    policy, call = context.policy, context.call
    refused = []
    for source in context.sources.values():
        allowed = policy.allows(source)
        if policy.path is not None and (call.channel == "site.hello" or not allowed):
            record_decision(policy.audit or context.paths.audit, source, call.identity, allowed)
        if not allowed:
            refused.append(source)
            if source.text is not None:
                keep_for_review(context.paths.refused, source, call.identity)
    if refused:
        names = "; ".join(
            f"{s.kind} {s.filename} (SHA-256 {s.sha256})"
            if s.text is not None
            else f'{s.kind} "site:{s.name}"'
            for s in refused
        )
        if policy.path is None:
            raise PolicyError(
                f"The site offers nothing by name, since it has no policy file; the configuration asks for {names}.",
                "The site's owner names it in the policy file; or give a path to a file of yours.",
            )
        raise PolicyError(
            f"The site's policy {policy.path} refuses {names}. {_offer(policy)}",
            "Send the files to the site's owner (appfl-gc sources export), who runs: appfl-gc site allow HASH",
        )


def _offer(policy: SitePolicy) -> str:
    names = ", ".join(f'{kind} "site:{name}"' for kind, name in sorted(policy.named))
    return f"The site itself offers {names}." if names else "The site offers nothing by name."


def _log_path(call: Call) -> Path | None:
    config = call.args.get("config")
    train = config.get("train_configs") if isinstance(config, dict) else None
    if not isinstance(train, dict):
        return None
    directory, name = train.get("logging_output_dirname"), train.get("logging_output_filename")
    parts = (str(name or "result"), call.identity.client, call.identity.run)
    return Path(str(directory or "./output")) / ("_".join(map(file_name_part, parts)) + ".txt")


def _report(error: BaseException, paths: SitePaths) -> ErrorReport:
    trace = clean_text("".join(traceback.format_exception(error)))
    frames = user_frames(error, (paths.sources,))
    if isinstance(error, AppflGcError):
        return ErrorReport(error.error_class, clean_text(error.message, 4000), error.hint, frames, trace)
    if isinstance(error, WireError):
        return ErrorReport(ErrorClass.PROTOCOL, f"The call is malformed. {error}", "", frames, trace)
    described = clean_text(f"{type(error).__name__}: {error}" if str(error) else type(error).__name__, 4000)
    if frames:
        hint = "The frames above are in your files; --debug shows the full trace."
        return ErrorReport(ErrorClass.USER, f"Your code failed at the site. {described}", hint, frames, trace)
    if isinstance(error, MemoryError):
        return ErrorReport(
            ErrorClass.USER, "The site ran out of memory.", "Use a smaller batch.", frames, trace
        )
    return ErrorReport(ErrorClass.INTERNAL, f"The site failed. {described}", "", frames, trace)
