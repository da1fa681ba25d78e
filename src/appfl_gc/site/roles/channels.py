"""Which handler answers which channel."""

from __future__ import annotations

import importlib
from collections.abc import Callable

from appfl_gc.protocol.errors import NotSupportedError
from appfl_gc.site.roles.context import Answer, CallContext

Handler = Callable[[CallContext], Answer]

# By import path, so that a site without torch can still answer site.hello.
CHANNELS = {
    "site.hello": "appfl_gc.site.roles.site_role:hello",
    "trainer.sample_size": "appfl_gc.site.roles.trainer_role:sample_size",
    "trainer.train": "appfl_gc.site.roles.trainer_role:train",
}


def find_handler(channel: str) -> Handler:
    """The handler of ``channel``.

    Raises:
        NotSupportedError: if this site does not know the channel.
    """
    target = CHANNELS.get(channel)
    if target is None:
        raise NotSupportedError(
            f"The channel {channel} is not supported yet at this site.",
            f"Channels here are {', '.join(CHANNELS)}.",
        )
    module, name = target.split(":")
    handler: Handler = getattr(importlib.import_module(module), name)
    return handler
