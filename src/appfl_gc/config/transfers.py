"""Checks of ``comm_configs``: what the keys of a store, of compression and of encryption say together."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from appfl_gc.config.compressors import settings_from_configs
from appfl_gc.config.connectors import arguments, check_configs, placeholders, without_effect
from appfl_gc.config.document import Document, KeyPath
from appfl_gc.config.s3_names import ADDRESS, BUCKET
from appfl_gc.config.schema.block import thaw
from appfl_gc.config.schema.comm_configs import CommConfigs
from appfl_gc.config.sources import find_file, yaml_file_of
from appfl_gc.config.typing_check import TypedCheck
from appfl_gc.protocol.errors import AppflGcError

_AT = "comm_configs"


def check_transfers(
    comm: CommConfigs, check: TypedCheck, directory: Path, documents: Iterable[Document]
) -> CommConfigs:
    """``comm`` with the credentials file found; what is wrong is reported.

    Args:
        comm: of one client or of the server.
        check: of its block.
        directory: the working directory, where a relative path is looked for first.
        documents: the two files.
    """
    if comm.s3_configs.enable_s3 and comm.proxystore_configs.enable_proxystore:
        check.error((_AT,), "Both `s3_configs` and `proxystore_configs` are switched on.", "Keep one store.")
    _check_compression(comm, check)
    _check_proxystore(comm, check)
    if comm.encryption_configs.enable_encryption and not (
        comm.s3_configs.enable_s3 or comm.proxystore_configs.enable_proxystore
    ):
        check.warning(
            (_AT, "encryption_configs", "enable_encryption"),
            "`enable_encryption: True` has no effect here: only what lies in S3 or ProxyStore is encrypted.",
            "What travels inside tasks is protected by Globus Compute's TLS; local runs use private files.",
        )
    return _check_s3(comm, check, directory, documents)


def _check_compression(comm: CommConfigs, check: TypedCheck) -> None:
    at = (_AT, "compressor_configs")
    try:
        _, warnings = settings_from_configs(comm.compressor_configs.plain())
    except AppflGcError as error:
        check.error(_key_of(error.message, at), error.message, error.hint)
        return
    for warning in warnings:
        check.warning(_key_of(warning, at), warning)


def _key_of(sentence: str, at: KeyPath) -> KeyPath:
    """The key that a sentence about ``compressor_configs`` begins with."""
    named = re.match(r"compressor_configs\.(\w+)", sentence)
    return (*at, named[1]) if named else at


def _check_proxystore(comm: CommConfigs, check: TypedCheck) -> None:
    store, at = comm.proxystore_configs, (_AT, "proxystore_configs")
    if not store.enable_proxystore:
        return
    configs = thaw(store.connector_configs)
    problems = check_configs(store.connector_type, configs)
    for problem in problems:
        check.error((*at, *problem.key), problem.sentence, problem.hint)
    if not problems and store.connector_type is not None:
        for remark in without_effect(store.connector_type, configs):
            check.warning((*at, *remark.key), remark.sentence, remark.hint)
        for remark in placeholders(arguments(store.connector_type, configs)):
            check.note((*at, *remark.key), remark.sentence, remark.hint)


def _check_s3(
    comm: CommConfigs, check: TypedCheck, directory: Path, documents: Iterable[Document]
) -> CommConfigs:
    s3, at = comm.s3_configs, (_AT, "s3_configs")
    if not s3.enable_s3:
        return comm
    if not s3.s3_bucket:
        check.error((*at, "s3_bucket"), "`enable_s3: True` needs `s3_bucket`.", "Give the bucket's name.")
    elif not BUCKET.fullmatch(s3.s3_bucket):
        check.error(
            (*at, "s3_bucket"),
            f"{s3.s3_bucket!r} is no name of an S3 bucket.",
            "3 to 63 lowercase letters, digits, dots and hyphens, without s3:// before them.",
        )
    if s3.endpoint_url is not None and not ADDRESS.fullmatch(s3.endpoint_url):
        check.error(
            (*at, "endpoint_url"),
            "Expected the address of an S3 service, such as https://s3.example.org:9000: no user, password or path.",
            "The bucket's name goes into `s3_bucket`.",
        )
    if s3.s3_creds_file is None:
        return comm
    key: KeyPath = (*at, "s3_creds_file")
    found = find_file(s3.s3_creds_file, directory, yaml_file_of(check, key, documents))
    if isinstance(found, tuple):
        places = ", ".join(str(place) for place in found)
        check.error(
            key,
            f"There is no file {s3.s3_creds_file}.",
            f"Looked for {places}. Without the key, boto3's own chain (profile, SSO, role, environment) is used.",
        )
        return comm
    if found.stat().st_mode & 0o077:
        check.error(
            key,
            f"The S3 credentials file {found} can be used by others than its owner.",
            f"Run: chmod 600 {found}",
        )
        return comm
    changed = s3.model_copy(update={"s3_creds_file": str(found)})
    return comm.model_copy(update={"s3_configs": changed})
