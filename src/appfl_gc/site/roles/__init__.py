"""Roles: tables of named channels that a call can address."""
