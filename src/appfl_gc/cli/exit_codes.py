"""What the exit status of ``appfl-gc`` means; ``docs/exit-codes.md`` is the same table."""

from __future__ import annotations

import enum
import errno
from collections.abc import Mapping
from types import MappingProxyType

from appfl_gc.protocol.errors import AppflGcError, ErrorClass, NotSupportedError, UsageError
from appfl_gc.runner.events import Outcome


class ExitCode(enum.IntEnum):
    """The exit status, with its meaning in ``meaning`` and what to do in ``advice``."""

    meaning: str
    advice: str

    def __new__(cls, value: int, meaning: str, advice: str) -> ExitCode:
        """A member with its two sentences."""
        member = int.__new__(cls, value)
        member._value_ = value
        member.meaning = meaning
        member.advice = advice
        return member

    FINISHED = 0, "Finished: every round was done with every client.", "Nothing to do."
    INTERNAL = (
        1,
        "A bug in appfl_gc.",
        "Run it again with `--debug` and report the trace with both YAML files.",
    )
    CONFIGURATION = (
        2,
        "The command line or a YAML file is wrong, or asks for what is not supported yet. Nothing was sent.",
        "Correct the lines that the messages name; `appfl-gc validate` checks without running.",
    )
    PARTIAL = (
        3,
        "Finished, but clients were set aside on the way. The model is complete and saved.",
        "See the summary for the clients and why; judge whether the model is good enough without them.",
    )
    USER_CODE = (
        4,
        "Your own code failed: dataset, model, loss, metric, trainer or aggregator.",
        "The message names file and line; `--debug` shows the full trace.",
    )
    SOURCE_REFUSED = (
        5,
        "A site's policy refuses a source file. Nothing was trained.",
        "Ask the site's owner to review and allow the hashes in the message.",
    )
    INFRASTRUCTURE = (
        6,
        "A worker or a node was lost, the service failed or a payload was not moved, more often than may be retried.",
        "`appfl-gc resume` when the cause is gone; the same run may succeed.",
    )
    CANNOT_WRITE = (
        7,
        "A file or directory could not be written: no permission, no space, or a read-only file system.",
        "Free space, or name another place; a run's is `logging_output_dirname`.",
    )
    UPDATE_REFUSED = (
        8,
        "A client's update does not fit the model or is not finite (NaN or infinite).",
        "The message names client and tensor; lower the learning rate, clip gradients or correct the model.",
    )
    SITE_SOFTWARE = (
        9,
        "A site has no appfl_gc, a version out of range, or sends what this version does not understand.",
        "Install there what the message says.",
    )
    ACCESS = (
        10,
        "An endpoint can't be used by this identity, or there is no valid login.",
        "Do what the message says: log in, choose another identity, or ask the endpoint's owner; "
        "`appfl-gc doctor` checks each endpoint.",
    )
    LATE = (
        11,
        "Too few clients answered within the deadline.",
        "Raise `deadline_seconds` or lower `quorum` in `fault_tolerance_configs`, then `appfl-gc resume`.",
    )
    QUEUE_LIMIT = (
        12,
        "A site's batch system takes no more jobs of this user or project.",
        "`appfl-gc resume` when jobs there have ended.",
    )
    WALLTIME = (
        13,
        "A site's jobs end again and again before they get any further.",
        "Ask for a longer walltime, or for checkpoints more often, then `appfl-gc resume`.",
    )
    INTERRUPTED = (
        130,
        "Interrupted with Ctrl-C. What was computed is saved.",
        "`appfl-gc resume` goes on.",
    )


_OF_CLASS: Mapping[ErrorClass, ExitCode] = MappingProxyType(
    {
        ErrorClass.USER: ExitCode.USER_CODE,
        ErrorClass.SOURCE_REFUSED: ExitCode.SOURCE_REFUSED,
        ErrorClass.UPDATE_REFUSED: ExitCode.UPDATE_REFUSED,
        ErrorClass.TRANSFER: ExitCode.INFRASTRUCTURE,
        ErrorClass.WORKER_LOST: ExitCode.INFRASTRUCTURE,
        ErrorClass.MANAGER_LOST: ExitCode.INFRASTRUCTURE,
        ErrorClass.WALLTIME: ExitCode.WALLTIME,
        ErrorClass.QUEUE_LIMIT: ExitCode.QUEUE_LIMIT,
        ErrorClass.LATE: ExitCode.LATE,
        ErrorClass.CANCELLED: ExitCode.INFRASTRUCTURE,
        ErrorClass.FORGOTTEN: ExitCode.INFRASTRUCTURE,
        ErrorClass.SERVICE: ExitCode.INFRASTRUCTURE,
        ErrorClass.START_FAILED: ExitCode.INFRASTRUCTURE,
        ErrorClass.ENDPOINT: ExitCode.ACCESS,
        ErrorClass.LOGIN: ExitCode.ACCESS,
        ErrorClass.VERSION: ExitCode.SITE_SOFTWARE,
        ErrorClass.PROTOCOL: ExitCode.SITE_SOFTWARE,
        ErrorClass.STORAGE: ExitCode.CANNOT_WRITE,
        ErrorClass.INTERNAL: ExitCode.INTERNAL,
    }
)

_CANNOT_WRITE = frozenset(
    {
        errno.EACCES,
        errno.EPERM,
        errno.EROFS,
        errno.ENOSPC,
        errno.EDQUOT,
        errno.EEXIST,
        errno.ENOTDIR,
        errno.ENOENT,
        errno.ENAMETOOLONG,
    }
)


def of_class(error_class: ErrorClass) -> ExitCode:
    """The exit status for a run that failed with ``error_class``."""
    return _OF_CLASS[error_class]


def of_outcome(outcome: Outcome, error_class: ErrorClass | None = None) -> ExitCode:
    """The exit status of a run that ended with ``outcome``; ``error_class`` counts when it failed."""
    if outcome is Outcome.FAILED:
        return ExitCode.INTERNAL if error_class is None else of_class(error_class)
    return {
        Outcome.FINISHED: ExitCode.FINISHED,
        Outcome.PARTIAL: ExitCode.PARTIAL,
        Outcome.INTERRUPTED: ExitCode.INTERRUPTED,
    }[outcome]


def of_exception(error: BaseException) -> ExitCode:
    """The exit status for an exception that ended the program."""
    if isinstance(error, KeyboardInterrupt):
        return ExitCode.INTERRUPTED
    if isinstance(error, NotSupportedError | UsageError):
        return ExitCode.CONFIGURATION
    if isinstance(error, AppflGcError):
        return of_class(error.error_class)
    if isinstance(error, OSError) and error.errno in _CANNOT_WRITE:
        return ExitCode.CANNOT_WRITE
    return ExitCode.INTERNAL
