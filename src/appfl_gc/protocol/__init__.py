"""The words that server and site share: calls, replies, references, specs, events (standard library only)."""
