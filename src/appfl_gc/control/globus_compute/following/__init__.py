"""How calls are followed until they are answered or lost."""
