"""The block ``comm_configs``: how models travel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from appfl_gc.config.schema.block import Block, KwargsBlock, ignored, key


class CompressorConfigs(Block):
    """Compression of what clients send."""

    enable_compression: bool = key("Switches compression on.", False)
    lossy_compressor: str | None = key(
        "`SZ3Compressor` (also `SZ2Compressor`, `SZxCompressor`) or `ZFPCompressor`, which keep an error bound; "
        "`bfloat16`, `float16` or `int8` (8 bits and a scale for each block), which store numbers in fewer bits. "
        "Without one nothing is lost."
    )
    lossless_compressor: str | None = key(
        "For what must not change: `zstd`, `gzip`, `zlib`, `lzma`, or `blosc` (read as `zstd`).", "zstd"
    )
    error_bounding_mode: str | None = key(
        "What `error_bound` means: `ABS`, `REL` (relative to the range of a tensor's values), `ABS_AND_REL`, "
        "`ABS_OR_REL`, `PSNR` or `NORM`."
    )
    error_bound: float | None = key("Largest error of the mode, such as `1e-3`.")
    param_cutoff: int | None = key(
        "Tensors with up to so many elements are compressed without loss.", 1024, ge=0
    )
    compress_global_model: bool = key("Whether the global model is compressed in the same way.", False)


class S3Configs(Block):
    """Models by way of an S3 bucket."""

    enable_s3: bool = key("Switches the store on.", False)
    s3_bucket: str | None = key("The bucket.")
    s3_creds_file: str | None = key(
        "File with one line `region,access_key_id,secret_access_key`, for its owner's eyes only (mode 0600). "
        "Without it: the profile, role or environment that boto3 finds."
    )
    s3_temp_dir: str | None = ignored(
        "Directory of temporary files.", "Nothing is written to a file on the way.", quiet=True
    )
    endpoint_url: str | None = key(
        "Address of an S3 service other than Amazon's, such as `https://s3.example.org`."
    )
    expected_queue_wait_seconds: float = key(
        "How long a task may wait in a site's queue. What sites are granted should be valid for longer.",
        86400.0,
        ge=0,
    )


class ProxystoreConfigs(Block):
    """Models by way of a ProxyStore connector."""

    enable_proxystore: bool = key("Switches the store on.", False)
    connector_type: str | None = key(
        "`EndpointConnector`, `RedisConnector`, `FileConnector` or `GlobusConnector`."
    )
    connector_configs: KwargsBlock = key("Keyword arguments of the connector.", {}, validate_default=True)


class EncryptionConfigs(Block):
    """Encryption of what lies in a store that others run."""

    enable_encryption: bool = key(
        "Models and updates in S3 and ProxyStore are encrypted (AES-256-GCM) with keys that travel with the tasks.",
        False,
    )


class GlobusComputeConfigs(Block):
    """Old place of the S3 settings; they are read as ``s3_configs``."""

    s3_bucket: str | None = key("Old place of `s3_configs.s3_bucket`; its presence switches S3 on.")
    s3_creds_file: str | None = key("Old place of `s3_configs.s3_creds_file`.")
    s3_temp_dir: str | None = ignored(
        "Old place of `s3_configs.s3_temp_dir`.", "Nothing is written to a file on the way.", quiet=True
    )


class CommConfigs(Block):
    """How models travel. The client's values win over the server's where both files speak."""

    aliases: ClassVar[Mapping[str, str]] = {
        "compressor_config": "compressor_configs",
        "proxystore_config": "proxystore_configs",
    }

    compressor_configs: CompressorConfigs = key("Compression.", CompressorConfigs())
    s3_configs: S3Configs = key("The S3 store.", S3Configs())
    proxystore_configs: ProxystoreConfigs = key("The ProxyStore store.", ProxystoreConfigs())
    encryption_configs: EncryptionConfigs = key("Encryption.", EncryptionConfigs())
    globus_compute_configs: GlobusComputeConfigs | None = key("Old place of `s3_configs`.")
    grpc_configs: KwargsBlock | None = ignored(
        "Settings of the gRPC control plane.",
        "The gRPC control plane is not built yet; runs use Globus Compute.",
    )
    comm_type: str | None = ignored("Name of the control plane.", "`endpoint_id` decides it.", quiet=True)
