"""What encrypted data looks like in a row: a JSON object whose ``$sealed`` is a Fernet token.

Only the shape: keys and ciphers are :mod:`jobs.stores.sealing`'s.
"""

from __future__ import annotations

from typing import Any

SEALED = "$sealed"
SHOWN = "<encrypted>"


def comparable(value: Any) -> Any:
    """JSON with :data:`SHOWN` for whatever is encrypted in it: that is another text each time."""
    if is_sealed(value):
        return SHOWN
    if isinstance(value, dict):
        return {name: comparable(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [comparable(inner) for inner in value]
    return value


def is_sealed(value: Any) -> bool:
    """Whether this is encrypted, and was not opened for want of the key."""
    return isinstance(value, dict) and isinstance(value.get(SEALED), str)
