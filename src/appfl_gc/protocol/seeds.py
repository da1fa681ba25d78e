"""Seeds that depend on what is computed, never on where, when or in which attempt."""

from __future__ import annotations

import hashlib
import json


def derive_seed(seed: int, round_: int, client: str, purpose: str) -> int:
    """A seed of 63 bits for one purpose, a pure function of its arguments (BLAKE2b, RFC 7693).

    Args:
        seed: the configured seed.
        round_: the round, or the client's dispatch number; 0 for what belongs to no round.
        client: the client's id, or "" for the server.
        purpose: what the randomness is for, such as ``train`` or ``sampling``.
    """
    text = json.dumps([seed, round_, client, purpose], ensure_ascii=True, separators=(",", ":"))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1
