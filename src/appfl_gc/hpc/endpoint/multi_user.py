"""What an administrator needs to let other people's identities use an endpoint."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path

from appfl_gc.hpc.endpoint.options import EndpointOptions
from appfl_gc.protocol.errors import UsageError
from appfl_gc.protocol.wire import Json, clean_text

MAPPING = "identity_mapping_config.json"
POLICY = "example_site_policy.yaml"

_IDENTITY = re.compile(r"[A-Za-z0-9._%+-]{1,100}@[A-Za-z0-9.-]{1,100}")
_ACCOUNT = re.compile(r"[a-z_][a-z0-9_-]{0,31}")

_POLICY_TEXT = """\
# An example: copy it to /etc/appfl_gc/site.yaml and edit it there. It holds for every user of this machine.
# Which source files that arrive with a call may run: any, listed or none.
sources: listed
# SHA-256 of the files that may run; `appfl-gc site review` shows those that wait.
allowed: []
"""


def identity_mapping(identities: Mapping[str, str]) -> list[Json]:
    """The agent's mapping document: each identity to its account, nobody else to anything.

    Raises:
        UsageError: if an identity or an account has an impossible name, or an account is root.
    """
    mappings: list[Json] = []
    for identity, account in identities.items():
        if not _IDENTITY.fullmatch(identity) or not _ACCOUNT.fullmatch(account):
            raise UsageError(
                f"`{clean_text(identity, 80)}` can't be mapped to the account `{clean_text(account, 40)}`.",
                "Give `--map name@institution.edu=account`, with a Globus user name and an account of this machine.",
            )
        if account == "root":
            raise UsageError(f"{identity} can't be mapped to root.", "Give an ordinary account.")
        mappings.append({"source": "{username}", "match": identity, "literal": True, "output": account})
    return [{"DATA_TYPE": "expression_identity_mapping#1.0.0", "mappings": mappings}]


def administrator_files(options: EndpointOptions) -> dict[str, str]:
    """Identity mapping and an example of a policy, by file name."""
    return {
        MAPPING: json.dumps(identity_mapping(options.identities), indent=2) + "\n",
        POLICY: _POLICY_TEXT,
    }


def review(options: EndpointOptions, directory: Path) -> tuple[str, ...]:
    """What an administrator must look at before the endpoint is started, a sentence each."""
    count = len(options.identities)
    lines = [
        f"Review {directory / MAPPING}: {count} {'identity is' if count == 1 else 'identities are'} mapped to "
        "accounts of this machine, and nobody else may use the endpoint.",
        f"Review {directory / 'user_config_schema.json'}: it is all that a submitter may set.",
        f"Review {directory / POLICY} and copy it to /etc/appfl_gc/site.yaml: without a policy any source may run.",
        f"Check that every mapped user can read {sys.prefix}: their workers use it.",
        "Start it as root, on a machine that users do not log in to.",
    ]
    if not options.allowed_functions:
        lines.append(
            "Any function may run under the mapped accounts; `--allowed-function UUID` allows this package's only "
            "(`appfl-gc function register` prints its UUID)."
        )
    if not _others_can_read(Path(sys.prefix)):
        lines.append(f"{sys.prefix} can't be read by other users now: workers would not start.")
    return tuple(lines)


def _others_can_read(path: Path) -> bool:
    return all(place.stat().st_mode & 0o005 == 0o005 for place in (path, *path.parents))
