"""The `appfl-gc` command."""
