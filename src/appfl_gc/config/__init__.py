"""The typed configuration: both YAML files read, merged, checked."""

from appfl_gc.config.diagnostic import ConfigError, Diagnostic, Severity
from appfl_gc.config.federation import LOCAL, ClientConfig, Federation
from appfl_gc.config.load import Examination, check, examine, load

__all__ = [
    "LOCAL",
    "ClientConfig",
    "ConfigError",
    "Diagnostic",
    "Examination",
    "Federation",
    "Severity",
    "check",
    "examine",
    "load",
]
