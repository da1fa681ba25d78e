"""Settings of compression, and what the configuration's names become."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from appfl_gc.config.compressors import settings_from_configs
from appfl_gc.protocol.compression import CompressionSettings
from appfl_gc.protocol.errors import NotSupportedError, UsageError
from appfl_gc.protocol.wire import WireError

PUBLISHED = {
    "enable_compression": True,
    "lossy_compressor": "SZ2Compressor",
    "lossless_compressor": "blosc",
    "error_bounding_mode": "REL",
    "error_bound": 1e-3,
    "param_cutoff": 1024,
}


def test_the_published_sample_is_understood_with_two_warnings() -> None:
    settings, warnings = settings_from_configs(PUBLISHED)
    assert settings == CompressionSettings("SZ3", "zstd", "REL", 1e-3, 1024)
    assert len(warnings) == 2
    assert "SZ2Compressor is read as SZ3Compressor" in warnings[0]
    assert "blosc is read as zstd" in warnings[1]


@pytest.mark.parametrize(
    "configs", [{}, {"enable_compression": False}, {**PUBLISHED, "enable_compression": None}]
)
def test_compression_is_off_unless_enabled(configs: dict[str, Any]) -> None:
    assert settings_from_configs(configs) == (None, [])


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"lossy_compressor": "SZxCompressor"}, CompressionSettings("SZ3", "zstd", "REL", 1e-3)),
        ({"lossy_compressor": "SZ3Compressor"}, CompressionSettings("SZ3", "zstd", "REL", 1e-3)),
        ({"lossy_compressor": "ZFPCompressor"}, CompressionSettings("ZFP", "zstd", "REL", 1e-3)),
        ({"lossless_compressor": "lzma"}, CompressionSettings("SZ3", "lzma", "REL", 1e-3)),
        ({"error_bound": "1e-3"}, CompressionSettings("SZ3", "zstd", "REL", 1e-3)),
        ({"error_bounding_mode": None}, CompressionSettings("SZ3", "zstd", "REL", 1e-3)),
        (
            {"error_bounding_mode": "PSNR", "error_bound": 60},
            CompressionSettings("SZ3", "zstd", "PSNR", 60.0),
        ),
        ({"param_cutoff": 0}, CompressionSettings("SZ3", "zstd", "REL", 1e-3, 0)),
        ({"lossy_compressor": None, "error_bound": None}, CompressionSettings(None, "zstd", "REL")),
        (
            {"lossy_compressor": "bfloat16", "error_bound": None, "error_bounding_mode": None},
            CompressionSettings("bfloat16"),
        ),
        ({"lossy_compressor": "int8"}, CompressionSettings("int8", "zstd", "REL", 1e-3)),
    ],
)
def test_names_of_the_field(changes: dict[str, Any], expected: CompressionSettings) -> None:
    assert settings_from_configs({**PUBLISHED, **changes})[0] == expected


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"lossy_compressor": "SZ3Compresor"}, "Did you mean SZ3Compressor?"),
        ({"lossless_compressor": "zst"}, "Did you mean zstd?"),
        ({"error_bounding_mode": "RELATIVE"}, "error_bounding_mode is 'RELATIVE'"),
        ({"error_bound": None}, "error_bound is missing"),
        ({"error_bound": 0}, "expected a number above 0"),
        ({"error_bound": "small"}, "expected a number above 0"),
        ({"error_bound": True}, "expected a number above 0"),
        ({"error_bound": float("inf")}, "expected a number above 0"),
        ({"error_bounding_mode": "PSNR", "error_bound": -1}, "decibels"),
        ({"param_cutoff": -1}, "param_cutoff is -1"),
        ({"param_cutoff": "many"}, "param_cutoff is 'many'"),
    ],
)
def test_what_cannot_be_used_is_said(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match="compressor_configs") as error:
        settings_from_configs({**PUBLISHED, **changes})
    assert words in str(error.value)


def test_a_mode_that_cannot_be_kept_is_refused_with_what_to_use() -> None:
    with pytest.raises(NotSupportedError, match="PW_REL is not supported yet") as error:
        settings_from_configs({**PUBLISHED, "error_bounding_mode": "PW_REL"})
    assert "REL bounds it relative to the range" in error.value.hint


def test_json_there_and_back() -> None:
    for settings in (CompressionSettings(), CompressionSettings("SZ3", None, "NORM", 0.5, 7)):
        assert CompressionSettings.from_json(settings.to_json()) == settings


@pytest.mark.parametrize(
    "changes",
    [
        {"lossy": "pickle"},
        {"lossless": 3},
        {"mode": "PW_REL"},
        {"mode": None},
        {"bound": "1"},
        {"bound": True},
        {"bound": -1.0},
        {"bound": 10**400},
        {"lossy": "ZFP", "bound": None},
        {"cutoff": -1},
        {"cutoff": 1.5},
    ],
)
def test_json_of_another_party_is_checked(changes: dict[str, Any]) -> None:
    with pytest.raises(WireError):
        CompressionSettings.from_json({**CompressionSettings("SZ3", bound=1.0).to_json(), **changes})


def test_checking_a_configuration_loads_neither_torch_nor_numpy() -> None:
    code = (
        "import sys; from appfl_gc.config.compressors import settings_from_configs; "
        "sys.exit(bool({'torch', 'numpy', 'zstandard', 'pysz', 'zfpy'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == 0
