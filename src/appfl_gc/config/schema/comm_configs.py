"""The block ``comm_configs``: how models travel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from appfl_gc.config.schema.block import Block, KwargsBlock, ignored, key, not_yet

COMPRESSION = "Compression is not built yet."
S3 = "The store `s3` is not built yet."
PROXYSTORE = "The store `proxystore` is not built yet."


class CompressorConfigs(Block):
    """Compression of what clients send."""

    enable_compression: bool = not_yet("Switches compression on.", False, refused=(True,), why=COMPRESSION)
    lossy_compressor: str | None = not_yet(
        "`SZ2Compressor`, `SZ3Compressor`, `SZxCompressor` or `ZFPCompressor`.", why=COMPRESSION
    )
    lossless_compressor: str | None = not_yet("`blosc`, `gzip`, `lzma`, `zstd` or `zlib`.", why=COMPRESSION)
    error_bounding_mode: str | None = not_yet(
        "`ABS`, `REL`, `ABS_AND_REL`, `ABS_OR_REL`, `PSNR`, `NORM` or `PW_REL`.", why=COMPRESSION
    )
    error_bound: float | None = not_yet("Largest error of the mode.", why=COMPRESSION)
    param_cutoff: int | None = not_yet(
        "Tensors with fewer elements are compressed without loss.", why=COMPRESSION
    )


class S3Configs(Block):
    """Models by way of an S3 bucket."""

    enable_s3: bool = not_yet("Switches the store on.", False, refused=(True,), why=S3)
    s3_bucket: str | None = not_yet("The bucket.", why=S3)
    s3_creds_file: str | None = not_yet(
        "File with `region,access_key_id,secret_access_key`, mode 0600.", why=S3
    )
    s3_temp_dir: str | None = not_yet("Directory of temporary files.", why=S3)


class ProxystoreConfigs(Block):
    """Models by way of a ProxyStore connector."""

    enable_proxystore: bool = not_yet("Switches the store on.", False, refused=(True,), why=PROXYSTORE)
    connector_type: str | None = not_yet(
        "`RedisConnector`, `FileConnector`, `EndpointConnector` or `GlobusConnector`.", why=PROXYSTORE
    )
    connector_configs: KwargsBlock = not_yet(
        "Keyword arguments of the connector.", {}, why=PROXYSTORE, validate_default=True
    )


class GlobusComputeConfigs(Block):
    """Old place of the S3 settings; they are read as ``s3_configs``."""

    s3_bucket: str | None = not_yet(
        "Old place of `s3_configs.s3_bucket`; its presence switches S3 on.", why=S3
    )
    s3_creds_file: str | None = not_yet("Old place of `s3_configs.s3_creds_file`.", why=S3)
    s3_temp_dir: str | None = not_yet("Old place of `s3_configs.s3_temp_dir`.", why=S3)


class CommConfigs(Block):
    """How models travel. The client's values win over the server's where both files speak."""

    aliases: ClassVar[Mapping[str, str]] = {
        "compressor_config": "compressor_configs",
        "proxystore_config": "proxystore_configs",
    }

    compressor_configs: CompressorConfigs = key("Compression.", CompressorConfigs())
    s3_configs: S3Configs = key("The S3 store.", S3Configs())
    proxystore_configs: ProxystoreConfigs = key("The ProxyStore store.", ProxystoreConfigs())
    globus_compute_configs: GlobusComputeConfigs | None = key("Old place of `s3_configs`.")
    grpc_configs: KwargsBlock | None = ignored(
        "Settings of the gRPC control plane.",
        "The gRPC control plane is not built yet; runs use Globus Compute.",
    )
    comm_type: str | None = ignored("Name of the control plane.", "`endpoint_id` decides it.", quiet=True)
