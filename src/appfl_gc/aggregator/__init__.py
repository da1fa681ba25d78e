"""Aggregators: how updates become the next global model."""
