"""Seeds that depend on what they are for, not on what was drawn before."""

from __future__ import annotations

import hashlib


def derived_seed(*parts: int | str) -> int:
    """Return a seed, 0 to 2^63 - 1, that depends on all `parts`, the same on every machine."""
    digest = hashlib.blake2b("\0".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest) >> 1
