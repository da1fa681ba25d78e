"""Train one model with the clients of two YAML files: the same as ``appfl-gc run``, with its options.

Without arguments it takes the two files named here: two clients on this machine train on MNIST.
"""

from __future__ import annotations

import sys
from pathlib import Path

SERVER_CONFIG = "./resources/config_gc/mnist/server_fedavg.yaml"
CLIENT_CONFIG = "./resources/config_gc/mnist/clients.yaml"
TOKENS = ("--compute_token", "--openid_token")


def beside(path: str) -> Path:
    """The path itself where it exists, else where it is beside this script or its folder."""
    here = Path(__file__).resolve().parent
    places = (Path(path), here / path, here.parent / path)
    return next((place for place in places if place.exists()), Path(path))


def refuse_tokens(arguments: list[str]) -> None:
    """End where a token is an argument: every user of this machine can read it in the list of processes."""
    for option in (argument.partition("=")[0] for argument in arguments):
        if option in TOKENS:
            sys.stderr.write(
                f"Error: {option} is not supported yet, and a token never belongs on a command line, where "
                "others can read it.\nHint: revoke that token; log in with `globus-compute-endpoint login`, "
                "or set GLOBUS_COMPUTE_CLIENT_ID and GLOBUS_COMPUTE_CLIENT_SECRET in the environment.\n"
            )
            sys.exit(2)


if __name__ == "__main__":
    from appfl_gc.cli.run import main

    refuse_tokens(sys.argv[1:])
    main(beside(SERVER_CONFIG), beside(CLIENT_CONFIG))
