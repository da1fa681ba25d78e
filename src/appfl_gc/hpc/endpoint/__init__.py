"""Globus Compute endpoints of this machine: write, check, rewrite and run them."""
