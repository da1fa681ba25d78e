"""How calls become tasks: packed into requests, through the SDK's Executor, results as text."""
