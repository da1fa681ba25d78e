"""Make the environment of this Python the one that workers use."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from appfl_gc.hpc.endpoint.options import EndpointOptions
from appfl_gc.hpc.facility import Facility

PROGRAM = "globus-compute-endpoint"
MARKER = "APPFL_GC_ENDPOINT"
"""Set in the agent and in all that it starts, to the endpoint's directory: how leftovers are found."""

KEEP_ENVIRONMENT = "SPT_NOENV"
"""With this set, a process that changes its title does not overwrite the environment that others can read."""

SITE_HOME = "APPFL_GC_SITE_HOME"
SITE_STATE = "APPFL_GC_SITE_STATE"
CREDENTIALS = ("GLOBUS_COMPUTE_CLIENT_ID", "GLOBUS_COMPUTE_CLIENT_SECRET")


def binaries(python: str = sys.executable) -> Path:
    """The directory of the programs of this environment."""
    return Path(python).absolute().parent


def worker_init(facility: Facility, options: EndpointOptions, site: Path | None) -> str:
    """Shell lines that run before a worker: the facility's modules, this environment, the site's directories."""
    lines = [line for line in (facility.prelude + options.prelude).splitlines() if line.strip()]
    lines.append(_activation(binaries()))
    source = _source_directory()
    if source is not None:
        lines.append(f"export PYTHONPATH={shlex.quote(str(source))}${{PYTHONPATH:+:$PYTHONPATH}}")
    lines += _past_the_proxy(options.direct_hosts)
    # Tasks of a submitter need not see what the agent logs in with.
    lines.append(f"unset {' '.join(CREDENTIALS)}")
    for name, value in {**site_variables(site), **options.environment}.items():
        lines.append(f"export {name}={shlex.quote(value)}")
    return "".join(f"{line}\n" for line in lines)


def _past_the_proxy(hosts: Sequence[str]) -> list[str]:
    """Lines that add hosts, and loopback, to those that the node's programs reach without its HTTP proxy."""
    if not hosts:
        return []
    added = ",".join(dict.fromkeys([*hosts, "localhost", "127.0.0.1"]))
    return [
        'no_proxy="${no_proxy:-${NO_PROXY:-}}"',
        f'export no_proxy="${{no_proxy:+$no_proxy,}}{added}"',
        'export NO_PROXY="$no_proxy"',
    ]


def user_environment(
    options: EndpointOptions, directory: Path, user_directory: Path, site: Path | None
) -> dict[str, str]:
    """Variables of the user endpoint. As root the agent clears all others, so PATH is among them."""
    inherited = [entry for entry in os.environ.get("PATH", os.defpath).split(os.pathsep) if entry]
    path = list(dict.fromkeys([str(binaries()), *inherited]))
    variables = {"PATH": os.pathsep.join(path), MARKER: str(directory), KEEP_ENVIRONMENT: "1"}
    if not options.multi_user:
        variables["GLOBUS_COMPUTE_USER_DIR"] = str(user_directory)
    variables |= dict.fromkeys(CREDENTIALS, "")
    source = _source_directory()
    if source is not None:
        variables["PYTHONPATH"] = str(source)
    return {**variables, **site_variables(site), **options.environment}


def site_variables(site: Path | None) -> Mapping[str, str]:
    """Where the site keeps what it must remember; empty leaves the default in the home directory."""
    return {} if site is None else {SITE_HOME: str(site), SITE_STATE: str(site)}


def _activation(programs: Path) -> str:
    script = programs / "activate"
    if script.is_file():
        return f". {shlex.quote(str(script))}"
    return f"export PATH={shlex.quote(str(programs))}:$PATH"


def _source_directory() -> Path | None:
    """Where appfl_gc is imported from if the environment alone does not have it, else None."""
    found = subprocess.run([sys.executable, "-I", "-c", "import appfl_gc"], capture_output=True, check=False)
    return None if found.returncode == 0 else Path(__file__).parents[3]
