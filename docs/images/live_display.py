"""Draw `live_display.svg`, the live display in the middle of a real run: `python docs/images/live_display.py OUTPUT`.

OUTPUT is where the run directory goes; it can be read in the picture.
"""

from __future__ import annotations

import io
import re
import sys
import tempfile
from pathlib import Path

import yaml
from rich.console import Console

from appfl_gc import run
from appfl_gc.report.live_view import view
from appfl_gc.report.progress import RunProgress
from appfl_gc.runner.events import ClientChanged, ClientState, RunEvent

WIDTH, HEIGHT = 100, 22
PICTURE = Path(__file__).with_suffix(".svg")
MNIST = Path(__file__).resolve().parents[2] / "examples" / "resources" / "config_gc" / "mnist"
FONT = re.compile(r"@font-face \{.*?\}", re.DOTALL)  # fetched from the network; the reader's own will do
ROUNDS, CLIENTS, AT_ROUND = 8, 4, 4


class Photographer:
    """Hears a run as the live display does and keeps what it shows after the second update of one round."""

    def __init__(self) -> None:
        self.progress = RunProgress()
        self.seen = 0

    def on_event(self, event: RunEvent) -> None:
        """Take the event in; draw when the moment has come."""
        self.progress.apply(event)
        if not isinstance(event, ClientChanged):
            return
        if event.state is ClientState.ARRIVED and event.round == AT_ROUND:
            self.seen += 1
            if self.seen == 2:
                console = Console(
                    file=io.StringIO(), record=True, width=WIDTH, height=HEIGHT, force_terminal=True
                )
                console.print(view(self.progress, WIDTH, HEIGHT))
                svg = FONT.sub("", console.export_svg(title="appfl-gc run"))
                PICTURE.write_text("\n".join(line.rstrip() for line in svg.splitlines()) + "\n")


def four_clients(directory: Path) -> Path:
    """The shipped client file with four clients."""
    clients = yaml.safe_load((MNIST / "clients.yaml").read_text())["clients"]
    chosen = []
    for number in range(CLIENTS):
        client = yaml.safe_load(yaml.safe_dump(clients[0]))
        client["client_id"] = f"Client{number + 1}"
        client["data_configs"]["dataset_path"] = str(MNIST.parents[1] / "dataset" / "mnist_dataset.py")
        client["data_configs"]["dataset_kwargs"].update(
            num_clients=CLIENTS, client_id=number, partition_strategy="dirichlet_noniid", visualization=False
        )
        chosen.append(client)
    path = directory / "clients.yaml"
    path.write_text(yaml.safe_dump({"clients": chosen}))
    return path


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        run(
            MNIST / "server_fedavg_withval.yaml",
            four_clients(Path(scratch)),
            callbacks=[Photographer()],
            overrides=[
                f"server_configs.num_clients={CLIENTS}",
                f"server_configs.num_global_epochs={ROUNDS}",
                f"server_configs.logging_output_dirname={sys.argv[1]}",
                "client_configs.train_configs.num_local_steps=25",
            ],
        )
