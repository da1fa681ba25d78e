"""Schedulers and aggregators on a virtual clock: what a run would do, without sites and in no time."""
