"""Whether the newest global model is as the run left it."""

from __future__ import annotations

from appfl_gc.payload import checksum
from appfl_gc.protocol.errors import UsageError
from appfl_gc.runner.resume.past import PastRun

_HINT = (
    "Put it back from a copy of the run directory; or start a new run from the newest model that you trust, with "
    "--init-model."
)


def check_newest_model(past: PastRun) -> None:
    """Raise ``UsageError`` unless the file of the newest global model has the bytes that the run wrote."""
    path = past.model_file
    try:
        found = checksum.of_file(path)
    except OSError as error:
        raise UsageError(
            f"The newest global model, {path}, can't be read: {error.strerror}.", _HINT
        ) from None
    if found != past.model_checksum:
        raise UsageError(
            f"The newest global model, {path}, is not as the run left it. Perhaps model.safetensors or a checkpoint "
            "was written over in place, which is the same file.",
            _HINT,
        )
