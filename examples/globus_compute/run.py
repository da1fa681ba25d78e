"""Train one model with the clients of two YAML files, as ``appfl-gc run`` does.

From ``examples/`` without arguments it trains on this machine::

    python globus_compute/run.py

Options beside those listed by ``--help`` go to ``appfl-gc run`` (see ``appfl-gc run --help``).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

SERVER_CONFIG = "./resources/config_gc/mnist/server_fedavg.yaml"
CLIENT_CONFIG = "./resources/config_gc/mnist/clients.yaml"


def beside(path: str) -> str:
    """The path itself where it exists, else the one beside this script or its folder."""
    here = Path(__file__).resolve().parent
    places = (Path(path), here / path, here.parent / path)
    return str(next((place for place in places if place.exists()), path))


class RefusedToken(argparse.Action):
    """A token as an argument: every user of this machine could read it in the list of processes."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        """End with an explanation; the token is not repeated."""
        parser.error(
            f"{self.option_strings[0]} is not supported yet, and a token never belongs on a command line: "
            "other users can read it in the list of processes.\nHint: take it out, revoke that token, and "
            "log in with `globus-compute-endpoint login`, or set GLOBUS_COMPUTE_CLIENT_ID and "
            "GLOBUS_COMPUTE_CLIENT_SECRET in the environment."
        )


def arguments(argv: Sequence[str]) -> list[str]:
    """The arguments of ``appfl-gc run`` that stand for this script's own."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0], allow_abbrev=False)
    parser.add_argument("--server_config", default=SERVER_CONFIG, metavar="FILE", help="default: %(default)s")
    parser.add_argument("--client_config", default=CLIENT_CONFIG, metavar="FILE", help="default: %(default)s")
    parser.add_argument(
        "--enable_server_val", action="store_true", help="measure each global model at the server"
    )
    for option in ("--compute_token", "--openid_token"):
        parser.add_argument(
            option, action=RefusedToken, nargs="?", metavar="", help="refused: log in instead"
        )
    known, others = parser.parse_known_args(argv)
    validation = ["--enable_server_val"] if known.enable_server_val else []
    files = ["--server_config", beside(known.server_config), "--client_config", beside(known.client_config)]
    return [*files, *validation, *others]


if __name__ == "__main__":  # local workers are new processes that import this file again
    from appfl_gc.cli.run import run_command

    run_command.main(arguments(sys.argv[1:]), prog_name="run.py")
