"""A Globus Compute service on loopback, for one machine and without an account."""
