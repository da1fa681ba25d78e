"""The run itself: event loop, failure policy, journal, run directory, and what callbacks hear."""
