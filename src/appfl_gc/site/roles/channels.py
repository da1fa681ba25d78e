"""Which handler answers which channel."""

from __future__ import annotations

import importlib
from collections.abc import Callable

from appfl_gc.protocol.errors import NotSupportedError, VersionError
from appfl_gc.site.roles.context import Answer, CallContext

Handler = Callable[[CallContext], Answer]

# By import path, so that a site without torch can still answer site.hello.
CHANNELS = {
    "payload.send": "appfl_gc.site.roles.payload_role:send",
    "site.hello": "appfl_gc.site.roles.site_role:hello",
    "trainer.sample_size": "appfl_gc.site.roles.trainer_role:sample_size",
    "trainer.train": "appfl_gc.site.roles.trainer_role:train",
}

WORK = frozenset({"trainer.train"})
"""Channels whose calls are worth waiting for, stopping and keeping: their answers go to the outbox."""


def find_handler(channel: str) -> Handler:
    """The handler of ``channel``.

    Raises:
        NotSupportedError: if this site does not know the channel.
        VersionError: if a package that it needs is not installed at this site.
    """
    target = CHANNELS.get(channel)
    if target is None:
        raise NotSupportedError(
            f"The channel {channel} is not supported yet at this site.",
            f"Channels here are {', '.join(CHANNELS)}.",
        )
    module, name = target.split(":")
    try:
        handler: Handler = getattr(importlib.import_module(module), name)
    except ModuleNotFoundError as error:
        raise VersionError(
            f"The site has no {error.name}, which the channel {channel} needs.",
            f"Run at the site, in the environment of the endpoint's workers: pip install {error.name}",
        ) from error
    return handler
