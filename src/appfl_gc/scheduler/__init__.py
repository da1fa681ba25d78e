"""Schedulers: who trains when, as pure state machines."""
