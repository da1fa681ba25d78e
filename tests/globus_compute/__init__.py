"""Whole runs over real agents, the real SDK and a sandbox service."""
