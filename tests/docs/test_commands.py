"""The pages are typed in: their files written, their commands run, their output compared."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from appfl_gc.sandbox.sandbox import Sandbox
from tests.docs.page import ROOT, Block, Page, read

# `run` does the same work, less of it.
PRELUDE = """
appfl-gc() {{ if [ "$1" = run ]; then command appfl-gc "$@" {shorter}; else command appfl-gc "$@"; fi; }}
"""
MNIST = ROOT / "examples" / "resources" / "config_gc" / "mnist"
UUID = re.compile(r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b")
UNITS = re.compile(r"# (ms|s|min|h|B|kB|MB|GB)\b( # s\b)?")


class Session:
    """A shell in an empty directory, with a home of its own and the commands of this environment."""

    def __init__(
        self, directory: Path, shorter: str = "", environment: Mapping[str, str] | None = None
    ) -> None:
        self.directory = directory / "project"
        self.directory.mkdir()
        self._place = directory / "place"
        self._prelude = PRELUDE.format(shorter=shorter)
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("APPFL_GC_")},
            **(environment or {}),
            "HOME": str(directory),
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        }

    def write(self, name: str, text: str) -> None:
        (self.directory / name).write_text(text + "\n")

    def run(self, block: Block) -> str:
        """Run a block where the last one ended; what it printed."""
        status = f'status=$?; pwd > "{self._place}"; exit $status'
        done = subprocess.run(
            ["bash", "-c", f"{self._prelude}\n{block.text}\n{status}"],
            cwd=self.directory,
            env={**self._environment, "PWD": str(self.directory)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == block.exit_status, f"{block.text}\n\n{done.stdout}"
        self.directory = Path(self._place.read_text().strip())
        return done.stdout


def walk(page: Page, session: Session) -> Iterator[tuple[Block, str]]:
    """Do what the page says from top to bottom; each block of shown output with what was really printed."""
    printed = ""
    for block in page.blocks:
        if block.runs:
            printed = session.run(block)
        elif block.language == "text":
            yield block, printed
        elif block.file:
            session.write(block.file, block.text)


def shape(line: str) -> str:
    """A line with numbers, units, places and spacing taken out."""
    line = re.sub(r"\S*/(model|metrics|server)\b", r"\1", line)
    line = re.sub(r"\d{4}(-\d\d){5}-[0-9a-f]{6}", "ID", line)
    line = re.sub(r"\b[0-9a-f]{12,64}\b", "#", line)
    line = UNITS.sub("#", re.sub(r"\b\d[\d.,:]*", "#", line))
    return re.sub(r"^\[#\]$", "", " ".join(line.split()))


def assert_shown_is_printed(block: Block, printed: str) -> None:
    real = [shape(line) for line in printed.splitlines()]
    for line in block.text.splitlines():
        wanted = shape(line)
        if not wanted or wanted == "...":
            continue
        ends = (", the best so far", "; about #", " (best in round #)")
        short = wanted
        for end in ends:
            short = short.replace(end, "")
        found = any(short in candidate or short in _without(candidate, ends) for candidate in real)
        assert found, f"line shown: {line}\nas: {short}\nprinted:\n{printed}"


def _without(line: str, ends: tuple[str, ...]) -> str:
    for end in ends:
        line = line.replace(end, "")
    return line


@pytest.mark.parametrize(
    ("name", "shorter"),
    [
        (
            "index",
            "--set client_configs.train_configs.num_local_steps=2 --set server_configs.num_global_epochs=2",
        ),
        ("your-own", "--set server_configs.num_global_epochs=2"),
        (
            "simulation",
            "--set client_configs.train_configs.num_local_steps=2 --set server_configs.num_global_epochs=2",
        ),
    ],
)
def test_a_page_does_what_it_says(name: str, shorter: str, tmp_path: Path) -> None:
    page = read(ROOT / "docs" / f"{name}.md")
    session = Session(tmp_path, shorter)
    (tmp_path / "appfl_gc").symlink_to(ROOT)  # the checkout that pages speak of
    compared = 0
    for block, printed in walk(page, session):
        if "appfl.comm.grpc" in block.text:
            continue  # the output of a file that is not on the page; tests/config has it
        assert_shown_is_printed(block, printed)
        compared += 1
    assert compared >= 3
    models = list(tmp_path.glob("project/**/output/*/model.safetensors"))
    assert len(models) == sum(
        block.text.count("appfl-gc run") + ("train.py" in block.text) for block in page.blocks if block.runs
    )


def test_the_readme_leads_to_a_model_of_ones_own(tmp_path: Path) -> None:
    page = read(ROOT / "README.md")
    session = Session(tmp_path, "--set server_configs.num_global_epochs=1")
    samples = tmp_path / "samples.csv"
    rng = np.random.default_rng(0)
    np.savetxt(samples, np.column_stack([rng.normal(size=(60, 8)), rng.integers(0, 3, 60)]), delimiter=",")
    for block in page.blocks:
        if block.runs:
            session.run(block)
        elif block.file:
            session.write(block.file, block.text)
        elif block.title == "in server.yaml":
            change = yaml.safe_load(block.text)["client_configs"]
            server = yaml.safe_load((session.directory / "server.yaml").read_text())
            server["client_configs"].update(change)
            session.write("server.yaml", yaml.safe_dump(server))
        elif block.title == "in clients.yaml":
            change = yaml.safe_load(block.text.replace("/absolute/path/samples.csv", str(samples)))
            clients = yaml.safe_load((session.directory / "clients.yaml").read_text())
            for client in clients["clients"]:
                client.update(change)
            session.write("clients.yaml", yaml.safe_dump(clients))
    assert len(list(session.directory.glob("output/*/model.safetensors"))) == 1


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[Sandbox]:
    """A service for the pages that need one."""
    with Sandbox.start(tmp_path / "sandbox") as sandbox:
        yield sandbox


def test_the_endpoints_page_leads_to_a_model_of_two_sites(tmp_path: Path, sandbox: Sandbox) -> None:
    page = read(ROOT / "docs" / "endpoints.md")
    session = Session(
        tmp_path,
        "--set server_configs.num_global_epochs=1 --set client_configs.train_configs.num_local_steps=2 "
        f"--set server_configs.logging_output_dirname={tmp_path}/output",
        sandbox.environment,
    )
    session.directory = tmp_path / "examples"
    shutil.copytree(ROOT / "examples", session.directory)
    shutil.copy(MNIST / "server_fedavg.yaml", session.directory / "server.yaml")
    uuids: list[str] = []
    for block in page.blocks:
        if block.title == "clients.yaml":
            text = block.text.replace("UUID of site A", uuids[0]).replace("UUID of site B", uuids[1])
            session.write("clients.yaml", text)
        elif block.runs and "site_a" in block.text:
            for name in ("site_a", "site_b"):  # the second site does what the first did
                printed = session.run(replace(block, text=block.text.replace("site_a", name)))
                uuids += [found[0] for found in UUID.finditer(printed)][:1]
        elif block.runs:
            session.run(block)
    for name in ("site_a", "site_b"):
        session.run(replace(page.blocks[0], text=f"appfl-gc endpoint stop {name}", remark=""))
    assert len(list(tmp_path.glob("output/*/model.safetensors"))) == 2  # the rehearsal's, and the two sites'
    assert sandbox.endpoint_pids() == []


def test_the_sandbox_page_does_what_it_says(tmp_path: Path) -> None:
    page = read(ROOT / "docs" / "sandbox.md")
    session = Session(tmp_path)
    session.directory = tmp_path / "checkout"
    shutil.copytree(ROOT / "examples", session.directory / "examples")
    (run, shown, up) = (block for block in page.blocks if block.runs or block.language == "text")
    assert_shown_is_printed(shown, session.run(run))
    # Its commands share a shell: what one exports the next one uses.
    assert "GLOBUS_COMPUTE_CLIENT_ID" not in (printed := session.run(up)), printed
    assert not (tmp_path / ".appfl_gc" / "sandbox").exists()
