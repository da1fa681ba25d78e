from __future__ import annotations

from pathlib import Path

import pytest

from appfl_gc.config.diagnostic import ConfigError
from appfl_gc.simulation.availability import Availability
from appfl_gc.simulation.draws import Chance, Constant, Exponential, Jittered, Lognormal, Normal
from appfl_gc.simulation.profile import ClientProfile
from appfl_gc.simulation.profile_file import read_profiles

FILE = """\
groups:
  - name: cluster
    count: 3
    step_seconds: {distribution: normal, mean: 0.2, sigma: 0.05, drawn: once, jitter: 0.1}
    queue_seconds: {distribution: lognormal, mean: 600, sigma: 0.8}
    overhead_seconds: 4
    transfer_seconds: {distribution: exponential, mean: 5}
    samples: 1000
  - name: laptop
    step_seconds: 0.5
    loss: 0.1
    down: [[0, 3600], [7200, 9000]]
    down_every: 86400
"""


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "profiles.yaml"
    path.write_text(text)
    return path


def test_groups_become_clients(tmp_path: Path) -> None:
    *cluster, laptop = read_profiles(written(tmp_path, FILE), seed=3)
    assert [profile.client for profile in cluster] == ["cluster-1", "cluster-2", "cluster-3"]
    for profile in cluster:
        speed = Normal(0.2, 0.05).draw(Chance(3, profile.client, 0, "step_seconds"))
        assert profile == ClientProfile(
            profile.client,
            Jittered(Constant(speed), 0.1),
            Lognormal(600, 0.8),
            Constant(4),
            Exponential(5),
            sample_size=1000,
            group="cluster",
        )
    assert len({profile.step_seconds for profile in cluster}) == 3
    assert laptop == ClientProfile(
        "laptop",
        Constant(0.5),
        loss=0.1,
        availability=Availability(((0.0, 3600.0), (7200.0, 9000.0)), 86400.0),
        group="laptop",
    )


@pytest.mark.parametrize(
    ("old", "new", "line", "key", "words"),
    [
        ("name: laptop", "name: cluster-2", 1, "groups", "Two clients are called 'cluster-2'"),
        ("name: laptop", "names: laptop", 9, "groups[1].names", "The key `names` is unknown."),
        (
            "count: 3",
            "count: many",
            3,
            "groups[0].count",
            "Expected a whole number of 1 or more, found 'many'",
        ),
        ("count: 3", "count: 99000000", 3, "groups[0].count", "at most 1,000,000 clients"),
        ("    step_seconds: 0.5\n", "", 9, "groups[1].step_seconds", "must be given"),
        ("step_seconds: 0.5", "step_seconds: -1", 10, "groups[1].step_seconds", "0 to 1e+09, found -1"),
        ("step_seconds: 0.5", "step_seconds: .inf", 10, "groups[1].step_seconds", "0 to 1e+09, found inf"),
        ("lognormal", "lognorm", 5, "groups[0].queue_seconds.distribution", "found 'lognorm'"),
        ("sigma: 0.8", "sigmas: 0.8", 5, "groups[0].queue_seconds.sigmas", "unknown in a lognormal"),
        ("mean: 600, ", "", 5, "groups[0].queue_seconds.mean", "a lognormal distribution needs it"),
        ("mean: 600", "mean: 1e308", 5, "groups[0].queue_seconds.mean", "0 to 1e+09, found 1e+308"),
        ("sigma: 0.8", "sigma: 11", 5, "groups[0].queue_seconds.sigma", "0 to 10, found 11"),
        ("drawn: once", "drawn: twice", 4, "groups[0].step_seconds.drawn", "found 'twice'"),
        ("loss: 0.1", "loss: 1", 11, "groups[1].loss", "from 0 to below 1"),
        ("[[0, 3600]", "[3600", 12, "groups[1].down", "Expected a list of windows"),
        ("[7200, 9000]", "[3000, 9000]", 12, "groups[1].down", "do not overlap"),
        ("86400", "8000", 12, "groups[1].down", "repeat every 8000.0 seconds"),
        ("samples: 1000", "samples: 0.5", 8, "groups[0].samples", "whole number"),
        ("name: laptop", "loss: 0", 9, "groups[1].name", "Each group must have a name"),
        ("groups:", "group:", 1, "group", "The key `group` is unknown"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(
    old: str, new: str, line: int, key: str, words: str, tmp_path: Path
) -> None:
    path = written(tmp_path, FILE.replace(old, new, 1))
    with pytest.raises(ConfigError) as caught:
        read_profiles(path)
    found = [item for item in caught.value.diagnostics if item.key == key]
    assert found, caught.value
    assert (found[0].file, found[0].line) == (str(path), line)
    assert words in found[0].message


def test_an_empty_file_is_told_what_it_must_have(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        read_profiles(written(tmp_path, "# nothing\n"))
    (found,) = caught.value.diagnostics
    assert (found.message, found.hint) == ("The file is empty.", "It must have keys such as `groups:`.")


def test_all_errors_are_told_at_once(tmp_path: Path) -> None:
    text = FILE.replace("0.5", "fast").replace("count: 3", "count: 0").replace("loss: 0.1", "los: 0.1")
    with pytest.raises(ConfigError) as caught:
        read_profiles(written(tmp_path, text))
    assert len(caught.value.diagnostics) == 3
    assert "Did you mean `loss`?" in [item.hint for item in caught.value.diagnostics]
