"""Compression of payloads: with a bounded error, by fewer bits, or without loss. Decoding executes nothing."""
