"""A command on a terminal of its own, with somebody who logs in when it asks."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass

ADDRESS = re.compile(r"http://\S+/v2/oauth2/authorize\?\S+")
PROMPT = re.compile("Authorization Code here|Enter the auth code:")
DEADLINE = 120


@dataclass(frozen=True)
class Ended:
    """How a command on a terminal ended."""

    returncode: int
    output: str
    asked: bool


def on_terminal(command: list[str], answer: Callable[[str], str] | None = None) -> Ended:
    """Run ``command`` on a terminal; ``answer`` turns the address that it shows into what is typed."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True, close_fds=True
    )
    os.close(theirs)
    output, asked = "", False
    deadline = time.monotonic() + DEADLINE
    try:
        while time.monotonic() < deadline:
            if not select.select([ours], [], [], 1.0)[0]:
                continue
            try:
                output += os.read(ours, 65536).decode()
            except OSError:  # the other end is closed
                break
            if not asked and PROMPT.search(output):
                asked = True
                address = ADDRESS.search(output)
                assert address is not None, output
                typed = answer(address.group()) if answer is not None else "\x04"
                os.write(ours, f"{typed}\n".encode())
        return Ended(process.wait(DEADLINE), output, asked)
    finally:
        os.close(ours)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
