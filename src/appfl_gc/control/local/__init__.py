"""The control plane of this machine: Globus Compute's engines in process, no account and no service."""
