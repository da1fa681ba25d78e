"""A Globus Compute service on loopback: the unmodified SDK and endpoint agents run against it without an account."""
