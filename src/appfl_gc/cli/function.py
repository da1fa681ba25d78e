"""``appfl-gc function``: the entry function as endpoints' owners allow it."""

from __future__ import annotations

import hashlib
import json

import click

from appfl_gc.cli.login import credentials_option
from appfl_gc.cli.program import Program


@click.group("function", context_settings={"help_option_names": ["-h", "--help"]})
def function() -> None:
    """Register the function that sites run, for endpoints with a list of allowed functions."""


@function.command("register", cls=Program)
@click.option("--public", is_flag=True, help="Any Globus identity may submit it.")
@click.option("--group", metavar="UUID", help="Members of this Globus group may submit it.")
@credentials_option
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
def register(public: bool, group: str | None, credentials: str | None, form: str) -> None:
    """Register the entry function once, and print its UUID and source.

    A site's owner reviews the source and adds the UUID to `allowed_functions`; runs name it in
    `control_configs.function_id`. The source is the same in all patch releases, so this is done once. Clients with
    `credentials` of their own submit as other identities: register with --public or --group for them.
    """
    from appfl_gc.control.globus_compute.identity import identity_from
    from appfl_gc.control.globus_compute.rest.service import ComputeService
    from appfl_gc.control.message import entry_source
    from appfl_gc.protocol.errors import UsageError
    from appfl_gc.site.entry import appfl_gc_entry

    if public and group is not None:
        raise UsageError("--public and --group exclude each other.", "Leave one of them out.")
    identity = identity_from(credentials)
    source, name = entry_source(), appfl_gc_entry.__name__
    function_id = ComputeService(identity).register(source, name, public=public, group=group)
    digest = hashlib.sha256(source.encode()).hexdigest()
    if form == "json":
        fields = {"function_id": function_id, "name": name, "sha256": digest, "source": source}
        click.echo(json.dumps({**fields, "identity": identity.describe()}))
        return
    click.echo(
        f"{function_id}\n\n"
        f"# Registered by {identity.describe()}; SHA-256 of the source {digest}.\n"
        f"# In the endpoint's config.yaml, then restart it:\n"
        f"allowed_functions:\n  - {function_id}\n\n"
        f"# In the server's YAML file:\n"
        f"server_configs:\n  control_configs:\n    function_id: {function_id}\n\n"
        f"# The source, for the owner's review:\n{source}",
        nl=False,
    )
