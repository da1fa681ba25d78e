"""Versions: what is installed here, what the service asks for, what the endpoints run."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from typing import TYPE_CHECKING

from packaging.version import InvalidVersion, Version

from appfl_gc.control.globus_compute.endpoints.facts import EndpointFacts
from appfl_gc.hpc.facility import facility_of_endpoint
from appfl_gc.protocol.errors import AppflGcError, ErrorClass
from appfl_gc.runner.doctor.row import Row, Subject

if TYPE_CHECKING:
    from appfl_gc.control.globus_compute.rest.service import ServiceVersions

FIRST_WITH_TEMPLATES = Version("4")
"""Older agents run one fixed configuration and ignore ``user_endpoint_config``."""


def sdk_row(subject: Subject, versions: ServiceVersions | AppflGcError) -> Row:
    """The SDK here against what the service works with."""
    if isinstance(versions, AppflGcError):
        return subject.failed("versions", versions)
    needed, found = _version(versions.min_sdk), _version(versions.sdk)
    if needed is not None and found is not None and found < needed:
        return subject.fail(
            "versions",
            f"globus-compute-sdk {versions.sdk} is installed here; the service asks for {versions.min_sdk} or newer.",
            "pip install -U globus-compute-sdk globus-compute-endpoint",
            ErrorClass.VERSION,
        )
    return subject.ok(
        "versions",
        f"globus-compute-sdk {versions.sdk} here; the service asks for {versions.min_sdk} or newer, and for "
        f"agents from {versions.min_endpoint} on.",
    )


def agent_rows(
    subject: Subject, facts: EndpointFacts, versions: ServiceVersions | AppflGcError | None
) -> Iterator[Row]:
    """The agent of an endpoint, and what the facility that runs it asks of its workers."""
    yield _agent(subject, facts, versions)
    known = facility_of_endpoint(facts.endpoint_id)
    if known is not None and known[1].requirements:
        yield subject.warn(
            "workers",
            f"The facility ({known[0].name}) needs certain packages in the environment that worker_init activates; "
            "only a job can tell whether they are there.",
            f"pip install {' '.join(known[1].requirements)}",
        )


def _agent(subject: Subject, facts: EndpointFacts, versions: ServiceVersions | AppflGcError | None) -> Row:
    if not facts.agent_version:
        return subject.skipped("agent", "The service does not tell the version of its agent.")
    found = _version(facts.agent_version)
    update = (
        f"pip install -U globus-compute-endpoint where it runs{f' ({facts.host})' if facts.host else ''}."
    )
    if found is None:
        return subject.warn("agent", f"Its version {facts.agent_version!r} is not understood.")
    needed = None
    if versions is not None and not isinstance(versions, AppflGcError):
        needed = _version(versions.min_endpoint)
    if needed is not None and found < needed:
        asked = f"Its agent is globus-compute-endpoint {found}; the service asks for {needed} or newer."
        return subject.fail("agent", asked, update, ErrorClass.VERSION)
    if found < FIRST_WITH_TEMPLATES:
        old = f"Its agent is globus-compute-endpoint {found}, which appfl_gc is not tested with."
        return subject.warn("agent", old, update)
    return subject.ok("agent", f"globus-compute-endpoint {found}{_python(facts)}.")


def _python(facts: EndpointFacts) -> str:
    if not facts.python_version:
        return ""
    here = ".".join(platform.python_version_tuple()[:2])
    same = facts.python_version.split(".")[:2] == here.split(".")
    return f", Python {facts.python_version}" + ("" if same else f" ({here} here; they may differ)")


def _version(text: str) -> Version | None:
    try:
        return Version(text)
    except InvalidVersion:
        return None
