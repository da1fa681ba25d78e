"""Going on with a run whose server ended: what its journal says, what changed since, what is to be done."""
