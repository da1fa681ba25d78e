"""Train one model with the clients of two YAML files: the same as ``appfl-gc run``, with its options.

Without arguments it takes the two files named here: two clients on this machine train on MNIST.
"""

from __future__ import annotations

from pathlib import Path

SERVER_CONFIG = "./resources/config_gc/mnist/server_fedcompass.yaml"
CLIENT_CONFIG = "./resources/config_gc/mnist/clients.yaml"


def beside(path: str) -> Path:
    """The path itself where it exists, else where it is beside this script or its folder."""
    here = Path(__file__).resolve().parent
    places = (Path(path), here / path, here.parent / path)
    return next((place for place in places if place.exists()), Path(path))


if __name__ == "__main__":
    from appfl_gc.cli.run import main

    main(beside(SERVER_CONFIG), beside(CLIENT_CONFIG))
