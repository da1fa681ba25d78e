"""Checks of a configuration against the world, without running a job: logins, endpoints, limits, networks."""
