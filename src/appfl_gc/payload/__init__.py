"""Payloads: tensors as bytes, the stores that move them, and the arena in which updates land."""
