"""The failure policy: what a failed, late or missing client means for its round and for the run. Pure."""
