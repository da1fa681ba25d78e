"""Who submits to an endpoint: a person's login, a Globus application, or a bare token. None ever prompts."""

from appfl_gc.control.globus_compute.identity.base import Identity, LoginStatus
from appfl_gc.control.globus_compute.identity.choose import default_identity, identity_from

__all__ = ["Identity", "LoginStatus", "default_identity", "identity_from"]
