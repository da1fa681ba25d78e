"""Recognise the login node of a cluster, where training would disturb others and be killed."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

JOB_VARIABLES = ("PBS_JOBID", "SLURM_JOB_ID", "SLURM_JOBID", "LSB_JOBID", "COBALT_JOBID", "FLUX_JOB_ID")
SUBMIT_COMMANDS = ("qsub", "sbatch")

_LOGIN_NAME = re.compile(r"login\d*($|[-_])|(^|[-_])uan-?\d*($|[-_])")


def login_node_warning(
    hostname: str, environ: Mapping[str, str], which: Callable[[str], str | None]
) -> str | None:
    """A warning if this host looks like a login node, else ``None``.

    Args:
        hostname: as the system reports it; only its first label counts.
        environ: environment variables; a batch job's id there means a compute node.
        which: finds a program's path, as ``shutil.which``.
    """
    if any(environ.get(name) for name in JOB_VARIABLES):
        return None
    evidence = []
    if _LOGIN_NAME.search(hostname.split(".", 1)[0].lower()):
        evidence.append("by its name")
    found = [command for command in SUBMIT_COMMANDS if which(command)]
    if found:
        evidence.append(f"because {' and '.join(found)} can be called here outside of a batch job")
    if not evidence:
        return None
    return (
        f"Warning: {hostname} looks like a cluster's login node {' and '.join(evidence)}, and clients with"
        " `endpoint_id: local` train on this host, where other people work.\n"
        "Hint: Start it inside an interactive or batch job, or name a Globus Compute endpoint of the cluster"
        " as `endpoint_id`."
    )
