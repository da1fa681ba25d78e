"""Failures inside the user's own files, told in the terms of those files."""

from __future__ import annotations

import re
import sys
import traceback
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from appfl_gc.protocol.errors import AppflGcError, UserCodeError
from appfl_gc.protocol.redaction import redact

MODULE_PREFIX = "appfl_gc_source_"
"""Every module made from a user's file has a name that starts so; that is how its frames are known."""

_MAX_FRAMES = 30
_TEXT_FRAME = re.compile(r'File "([^"\n]+)", line (\d+), in (\S+)')


def user_frames(error: BaseException, source_dirs: Iterable[Path] = ()) -> tuple[str, ...]:
    """The frames of ``error`` that lie in user files, as ``cnn.py:12 in forward``, outermost first.

    Follows the cause of an error of this package, and reads the text that a DataLoader's worker process sends
    in place of its frames. At most 30 frames: the first 10 and the last 20.

    Args:
        error: the exception, with its traceback.
        source_dirs: directories or files whose code counts as the user's, beside a SourceLoader's modules.
    """
    frames = list(_frames(error, tuple(source_dirs)))
    if len(frames) > _MAX_FRAMES:
        frames = [*frames[:10], f"... {len(frames) - _MAX_FRAMES} frames ...", *frames[-20:]]
    return tuple(frames)


def _frames(error: BaseException, source_dirs: tuple[Path, ...]) -> Iterator[str]:
    found = False
    for frame in _traceback_frames(error.__traceback__, source_dirs):
        found = True
        yield frame
    if isinstance(error, AppflGcError) and error.__cause__ is not None:
        yield from _frames(error.__cause__, source_dirs)
    elif isinstance(error, SyntaxError) and error.filename and _is_user_file(error.filename, source_dirs):
        yield f"{Path(error.filename).name}:{error.lineno or 0}"
    elif not found or "DataLoader worker" in str(error):
        yield from _text_frames(str(error), source_dirs)


def _traceback_frames(trace: TracebackType | None, source_dirs: tuple[Path, ...]) -> Iterator[str]:
    for frame, line in traceback.walk_tb(trace):
        code = frame.f_code
        module = frame.f_globals.get("__name__")
        mine = isinstance(module, str) and module.startswith(MODULE_PREFIX)
        if mine or _is_user_file(code.co_filename, source_dirs):
            yield f"{Path(code.co_filename).name}:{line} in {code.co_name}"


def _text_frames(text: str, source_dirs: tuple[Path, ...]) -> Iterator[str]:
    for filename, line, function in _TEXT_FRAME.findall(text):
        if _is_user_file(filename, source_dirs):
            yield f"{Path(filename).name}:{line} in {function}"


def _is_user_file(filename: str, source_dirs: tuple[Path, ...]) -> bool:
    if any(Path(filename).is_relative_to(directory) for directory in source_dirs):
        return True
    modules = [module for name, module in list(sys.modules.items()) if name.startswith(MODULE_PREFIX)]
    return any(module.__file__ == filename for module in modules)


@contextmanager
def user_errors(what: str, hint: str = "", source_dirs: Iterable[Path] = ()) -> Iterator[None]:
    """Turn whatever user code raises in the body, also ``SystemExit``, into a ``UserCodeError``.

    Errors of this package and ``KeyboardInterrupt`` pass unchanged.

    Args:
        what: the sentence's beginning, such as ``The model CNN in cnn.py could not be built``.
        hint: what to do, where the kind of failure does not say it better.
        source_dirs: as in ``user_frames``.
    """
    try:
        yield
    except (AppflGcError, KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException as error:
        raise as_user_error(error, what, hint, source_dirs) from error


def as_user_error(
    error: BaseException, what: str, hint: str = "", source_dirs: Iterable[Path] = ()
) -> UserCodeError:
    """The ``UserCodeError`` that says what failed, in which file and line, and why; see ``user_errors``."""
    frames = user_frames(error, source_dirs)
    place = ""
    if frames:
        file, _, rest = frames[-1].partition(":")
        place = f" in {file} line {rest.split(' ')[0]}"
    reason, own_hint = _reason(error)
    return UserCodeError(f"{what}: {reason}{place}{_detail(error)}", own_hint or hint)


def _reason(error: BaseException) -> tuple[str, str]:
    if isinstance(error, SystemExit):
        return (
            f"sys.exit({error.code!r}) was called",
            "Raise an exception, or return.",
        )
    if isinstance(error, ModuleNotFoundError) and error.name:
        package = error.name.partition(".")[0]
        return (
            f"the Python package {package} is not installed here; it is imported",
            f"Install {package} at the site, in the Python environment of the endpoint's workers.",
        )
    # By name, since a site without torch must be able to say hello.
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return (
            f"the memory was not enough ({type(error).__name__})",
            "Take a smaller batch size (train_batch_size, val_batch_size) or a smaller model.",
        )
    if isinstance(error, FileNotFoundError):
        return (
            type(error).__name__,
            f"Relative paths are looked up in {Path.cwd()}, where tasks run; data of a site need an absolute path. "
            "In a rehearsal, --local-data gives a function for data that only the site has.",
        )
    return type(error).__name__, ""


def _detail(error: BaseException) -> str:
    if isinstance(error, SystemExit):
        return "."
    if isinstance(error, SyntaxError):
        code = (error.text or "").strip()
        return f": {error.msg}: {code}" if code else f": {error.msg}"
    text = str(redact(str(error))).strip()
    if isinstance(error, KeyError):
        text = f"there is no key {text}"
    if "DataLoader worker" in text and "\n" in text:
        # A worker's message ends with the original error; the traceback before it is told as frames.
        first, last = text.splitlines()[0].rstrip("."), text.splitlines()[-1]
        text = f"{first}: {last}"
    return f": {text}" if text else "."


def shown_kwargs(kwargs: Mapping[str, object]) -> str:
    """Keyword arguments for an error message: values shortened, secrets at any depth hidden."""
    if not kwargs:
        return "no arguments"
    return ", ".join(f"{name}={_shown(name, value)}" for name, value in kwargs.items())


def _shown(name: str, value: object) -> str:
    text = repr(redact(value, name))
    return text if len(text) <= 60 else f"{text[:57]}..."
