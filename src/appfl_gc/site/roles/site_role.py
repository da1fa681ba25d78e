"""The role ``site``: what a site says of itself before the first round."""

from __future__ import annotations

import importlib.util
import os

from appfl_gc.protocol.wire import Json
from appfl_gc.site.host import environment_record
from appfl_gc.site.roles.context import Answer, CallContext


def hello(context: CallContext) -> Answer:
    """Versions, host facts, policy and working directory; with torch also the sample size.

    The client's dataset and model are built here, so that what is wrong with them shows before any training,
    and the first round finds them in the session. A call without a configuration asks for the site alone.
    """
    context.logger.info("%s", context.policy.description)
    values: dict[str, Json] = {
        "environment": environment_record(),
        "working_directory": os.getcwd(),
        "policy": context.policy.description,
        "sources": {kind: source.sha256 or f"site:{source.name}" for kind, source in context.sources.items()},
    }
    if importlib.util.find_spec("torch") is None:
        context.logger.warning("torch is not installed at this site, so it can't train.")
        values["torch"] = False
        return Answer(values)
    from appfl_gc.site.roles.trainer_role import describe_training

    values["torch"] = True
    if context.config:
        values.update(describe_training(context))
    return Answer(values)
