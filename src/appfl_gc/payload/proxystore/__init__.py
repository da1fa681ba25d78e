"""Payloads in what ProxyStore connects to: endpoints, Redis, shared directories, Globus Transfer."""
