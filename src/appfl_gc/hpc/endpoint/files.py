"""The text of each file of an endpoint."""

from __future__ import annotations

import dataclasses
import getpass
import json
import os
from pathlib import Path

import yaml

from appfl_gc.hpc.endpoint.engine import LAUNCHERS, user_endpoint_tree
from appfl_gc.hpc.endpoint.multi_user import MAPPING, administrator_files
from appfl_gc.hpc.endpoint.options import COMPUTE_ENGINE, EndpointOptions
from appfl_gc.hpc.endpoint.template import Tree, render, variables
from appfl_gc.hpc.endpoint.worker_environment import user_environment, worker_init
from appfl_gc.hpc.facility import Facility
from appfl_gc.hpc.knobs import KNOBS
from appfl_gc.protocol.wire import Json

CONFIG = "config.yaml"
TEMPLATE = "user_config_template.yaml.j2"
SCHEMA = "user_config_schema.json"
ENVIRONMENT = "user_environment.yaml"
IDENTIFIER = "endpoint.json"
PID = "daemon.pid"


def endpoint_files(
    facility: Facility, options: EndpointOptions, target: Path, shared: Path | None
) -> tuple[dict[str, str], tuple[str, ...]]:
    """The endpoint's files by name, and the variables that each submitter must give.

    Args:
        facility: whose defaults hold.
        options: the owner's choices, checked.
        target: the endpoint's directory.
        shared: where user endpoints, workers and the site write; None leaves the agent's and the site's own places.
    """
    if options.allowed_functions and options.engine == COMPUTE_ENGINE:
        # Text that a submitter gives reaches a shell, which would be a way around the allowed functions.
        code = {name for name, knob in KNOBS.items() if knob.code and facility.provider in knob.providers}
        options = dataclasses.replace(options, locked=options.locked | code)
    site = None if shared is None else shared / "site"
    agents = None if shared is None else str(shared / "agents")
    tree = user_endpoint_tree(facility, options, worker_init(facility, options, site), agents)
    environment = user_environment(options, target, target.parent, site)
    files = {
        CONFIG: _core_config(options, target),
        TEMPLATE: render(tree, _comment(facility)),
        SCHEMA: json.dumps(_schema(tree, facility), indent=2) + "\n",
        ENVIRONMENT: "# Variables of user endpoints. Workers see them, so secrets don't belong here.\n"
        + yaml.safe_dump(environment, sort_keys=False, allow_unicode=True),
    }
    if options.endpoint_id is not None:
        files[IDENTIFIER] = json.dumps({"endpoint_id": options.endpoint_id.lower()})
    if options.multi_user:
        files |= administrator_files(options)
    return files, tuple(name for name, must in variables(tree).items() if must)


def privileged() -> bool:
    """Whether the agent would see itself as privileged: root, or a process with capabilities."""
    if os.geteuid() == 0:
        return True
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return False
    held = [line.split()[1] for line in status.splitlines() if line.startswith("CapEff:")]
    return bool(held) and int(held[0], 16) != 0


def _core_config(options: EndpointOptions, target: Path) -> str:
    email = options.contact_email
    if email is None and privileged():
        email = f"{getpass.getuser()}@localhost"  # the agent insists on one when it runs as root
    settings: dict[str, Json] = {
        "display_name": options.display_name,
        "email": email,
        "heartbeat_period": options.heartbeat_seconds,
        "allowed_functions": list(options.allowed_functions) or None,
        "amqp_port": options.amqp_port,
        "identity_mapping_config_path": str(target / MAPPING) if options.multi_user else None,
        **options.extra_core,
    }
    kept = {key: value for key, value in settings.items() if value is not None}
    return "# The agent's own settings; the engine is in the template.\n" + yaml.safe_dump(
        kept, sort_keys=False
    )


def _schema(tree: Tree, facility: Facility) -> dict[str, Json]:
    names = variables(tree)
    properties: dict[str, Json] = {name: KNOBS[name].schema for name in names}
    if "launcher" in properties:
        properties["launcher"] = {"enum": list(LAUNCHERS[facility.provider])}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": properties,
        "required": [name for name, must in names.items() if must],
        "additionalProperties": False,
    }


def _comment(facility: Facility) -> str:
    return (
        f"{facility.title} ({facility.described_as}). Registration uploads this file: no secrets here.\n"
        "The schema beside it names what a submitter may set in user_endpoint_config."
    )
