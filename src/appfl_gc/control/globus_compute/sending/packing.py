"""How many calls fit into one request: by the bytes that the request will really have."""

from __future__ import annotations

import json
from collections.abc import Iterable

from appfl_gc.control.message import JSON_HEADER, call_arguments
from appfl_gc.protocol.call import Call
from appfl_gc.protocol.wire import Json

# Besides tasks and configuration a request holds ids, what the SDK says of this Python and host, and braces.
RESERVE = 4096
MOST_CALLS = 100
_NO_KEYWORDS = JSON_HEADER + "{}"


def call_bytes(call: Call) -> int:
    """Bytes that ``call`` adds to a request.

    Arguments are JSON text that travels as a string inside JSON: quotes and backslashes are escaped once more.
    """
    text = call_arguments(call)
    lengths = f"{len(text)}\n{len(_NO_KEYWORDS)}\n"
    escaped = text.count('"') + text.count("\\") + text.count("\n")
    # The line ends of both lengths and of the keywords, two quotes, a comma and a blank.
    return len(lengths) + len(text) + len(_NO_KEYWORDS) + escaped + 7


def room(limit: int, *configurations: dict[str, Json] | None) -> int:
    """Bytes for calls in a request of at most ``limit`` bytes that also carries ``configurations``."""
    return limit - RESERVE - sum(len(json.dumps(item)) for item in configurations if item)


def fitting(sizes: Iterable[int], room: int) -> int:
    """How many of the first calls, by their bytes, one request of ``room`` bytes takes: at least one."""
    count = total = 0
    for size in sizes:
        total += size
        if count and (total > room or count == MOST_CALLS):
            break
        count += 1
    return count
