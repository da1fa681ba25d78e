"""Classes of failure: what went wrong, whose it is, and what a run may do about it."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from appfl_gc.protocol.wire import Json, WireError, as_object, as_text


class ErrorClass(str, enum.Enum):
    """Why a call has no update. ``infrastructure`` classes may be tried again; the others would fail again."""

    USER = "user_error"
    SOURCE_REFUSED = "source_refused"
    UPDATE_REFUSED = "update_refused"
    TRANSFER = "transfer"
    WORKER_LOST = "worker_lost"
    MANAGER_LOST = "manager_lost"
    WALLTIME = "walltime"
    QUEUE_LIMIT = "queue_limit"
    LATE = "late"
    CANCELLED = "cancelled"
    FORGOTTEN = "forgotten"
    SERVICE = "service"
    START_FAILED = "start_failed"
    ENDPOINT = "endpoint"
    LOGIN = "login"
    VERSION = "version"
    PROTOCOL = "protocol"
    STORAGE = "storage"
    INTERNAL = "internal"

    @property
    def infrastructure(self) -> bool:
        """Whether the same call may succeed when it is tried again."""
        return self in {
            ErrorClass.TRANSFER,
            ErrorClass.WORKER_LOST,
            ErrorClass.MANAGER_LOST,
            ErrorClass.WALLTIME,
            ErrorClass.QUEUE_LIMIT,
            ErrorClass.LATE,
            ErrorClass.CANCELLED,
            ErrorClass.FORGOTTEN,
            ErrorClass.SERVICE,
            ErrorClass.START_FAILED,
        }


@dataclass(frozen=True)
class ErrorReport:
    """One failure in the user's terms.

    Attributes:
        error_class: which kind of failure.
        message: full sentences: what, where and why.
        hint: what to do next, or "".
        frames: the user's own frames, ``file:line in function``, outermost first.
        trace: the full trace, shown with ``--debug`` only.
    """

    error_class: ErrorClass
    message: str
    hint: str = ""
    frames: tuple[str, ...] = field(default=())
    trace: str = ""

    def to_json(self) -> dict[str, Json]:
        """The JSON form."""
        return {
            "error_class": self.error_class.value,
            "message": self.message,
            "hint": self.hint,
            "frames": list(self.frames),
            "trace": self.trace,
        }

    @classmethod
    def from_json(cls, value: Json) -> ErrorReport:
        """Parse the JSON form; raises ``WireError``."""
        fields = as_object(value, "The error")
        try:
            error_class = ErrorClass(as_text(fields.get("error_class"), "The error's class", 50))
        except ValueError:
            raise WireError("The error's class is unknown.") from None
        frames = fields.get("frames", [])
        if not isinstance(frames, list):
            raise WireError("The error's frames are not a list.")
        return cls(
            error_class,
            as_text(fields.get("message"), "The error's message", 4000),
            as_text(fields.get("hint", ""), "The error's hint", 2000),
            tuple(as_text(frame, "A frame", 500) for frame in frames[:50]),
            as_text(fields.get("trace", ""), "The error's trace"),
        )

    def __str__(self) -> str:
        lines = [self.message, *(f"  at {frame}" for frame in self.frames)]
        if self.hint:
            lines.append(f"Hint: {self.hint}")
        return "\n".join(lines)


class AppflGcError(Exception):
    """An error with a class, a message in the user's terms and a hint; base of all errors of this package."""

    error_class = ErrorClass.INTERNAL

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    @property
    def report(self) -> ErrorReport:
        """The error as a report."""
        return ErrorReport(self.error_class, self.message, self.hint)

    def __str__(self) -> str:
        return f"{self.message}\nHint: {self.hint}" if self.hint else self.message


class TransferError(AppflGcError):
    """A payload could not be moved, or arrived other than it was sent."""

    error_class = ErrorClass.TRANSFER


class UpdateRefusedError(AppflGcError):
    """An update does not fit the agreed ``UpdateSpec`` or is not finite."""

    error_class = ErrorClass.UPDATE_REFUSED


class DeliveryError(AppflGcError):
    """A control plane could not deliver a call or its reply."""

    error_class = ErrorClass.SERVICE


class WorkerLostError(DeliveryError):
    """The worker process that ran a call ended before it replied."""

    error_class = ErrorClass.WORKER_LOST


class ManagerLostError(WorkerLostError):
    """The node, or the batch job, that ran a call ended before it replied."""

    error_class = ErrorClass.MANAGER_LOST


class WalltimeError(AppflGcError):
    """A site stopped a task because its job is about to end; what was trained is in a checkpoint there."""

    error_class = ErrorClass.WALLTIME


class QueueLimitError(DeliveryError):
    """A batch system took no more jobs of this user or project."""

    error_class = ErrorClass.QUEUE_LIMIT


class CancelledError(AppflGcError):
    """A site stopped a task because nobody waits for it any more."""

    error_class = ErrorClass.CANCELLED


class ForgottenError(DeliveryError):
    """The control plane does not know a call that was sent before; the site may still have answered it."""

    error_class = ErrorClass.FORGOTTEN


class StartFailedError(DeliveryError):
    """An endpoint could not start what runs calls: its template, its schema or its engine failed."""

    error_class = ErrorClass.START_FAILED


class EndpointError(DeliveryError):
    """An endpoint can't be used: unknown, not shared with this identity, or it refuses the call."""

    error_class = ErrorClass.ENDPOINT


class LoginError(DeliveryError):
    """There is no valid login for the Globus services."""

    error_class = ErrorClass.LOGIN


class StorageError(AppflGcError):
    """A file can't be written on the machine that says so: its disk is full, or a directory is not writable."""

    error_class = ErrorClass.STORAGE


class UserCodeError(AppflGcError):
    """The user's own code or configuration failed."""

    error_class = ErrorClass.USER


class SourceRefusedError(AppflGcError):
    """The site's policy refuses a source file."""

    error_class = ErrorClass.SOURCE_REFUSED


class VersionError(AppflGcError):
    """A site lacks software, or has it in a version that does not fit."""

    error_class = ErrorClass.VERSION


class UsageError(UserCodeError):
    """The command line asks for something that can't be had; no code of the user has run."""


class NotSupportedError(AppflGcError):
    """A feature that is named in the configuration is not built yet."""

    error_class = ErrorClass.USER
