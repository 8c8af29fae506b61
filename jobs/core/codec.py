"""JSON in and out, the same on every backend: what is read back equals what was sent.

Refused rather than bent: NaN and infinities, NUL, lone surrogates, bytes, sets, dates, keys that
are not text, cycles and anything nested deeper than :data:`MAX_DEPTH` or larger than the limit.
The refusal names the path of the value. Tuples are arrays.

A value that holds one list many times over is written out each time: a few such levels are more
than any memory. So a value is weighed before it is written, and the weighing stops at the limit.
"""

from __future__ import annotations

import math
from typing import Any

import msgspec

from jobs.core.errors import PayloadError, PayloadTooLarge

MAX_DEPTH = 64
DEFAULT_MAX_BYTES = 100_000
# Python reads back no more digits than this unless told to, and the runner may not be told.
MAX_DIGITS = 4_300
_LARGEST_INT = 10**MAX_DIGITS - 1
_SHORT_INT = 2**63
# Up to so many times its limit a text is written out all the same, to tell how long it is.
_TOLD_TIMES = 4

# Ten times as fast as the standard library's, and of the same mind about what it writes once
# ``_weigh`` has looked (it would write NaN as null).
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode
_PLAIN = frozenset({bool, type(None)})
_NESTS = frozenset({dict, list, tuple})


def encode_payload(value: object, max_bytes: int = DEFAULT_MAX_BYTES) -> str:
    """The payload as compact JSON text.

    Raises :class:`PayloadError` naming the path of the first value that cannot be stored, and
    :class:`PayloadTooLarge` when the text is over ``max_bytes`` of UTF-8.
    """
    if not isinstance(value, dict):
        raise PayloadError("$", f"a payload is a JSON object (a dict), not {_type(value)}")
    return encode(value, max_bytes)


def encode(value: object, max_bytes: int = DEFAULT_MAX_BYTES) -> str:
    """Any JSON value as compact text; refusals as in :func:`encode_payload`."""
    try:
        _weigh(value, MAX_DEPTH, max_bytes * _TOLD_TIMES)
    except _UnfitError:
        _refuse(value, "$", 0)
    except _HeavyError:
        raise too_large(f"over {max_bytes * _TOLD_TIMES:,} bytes of JSON", max_bytes) from None
    try:
        raw = _encode(value)
    except (ValueError, OverflowError) as error:  # an integer, where fewer digits are allowed
        raise PayloadError("$", str(error)) from error
    if len(raw) > max_bytes:
        raise too_large(f"{len(raw):,} bytes of JSON", max_bytes)
    return raw.decode()


def too_large(size: str, max_bytes: int) -> PayloadTooLarge:
    """The refusal of a value of that size."""
    return PayloadTooLarge(
        "$",
        f"{size}, over the limit of {max_bytes:,}; "
        "store the data elsewhere and pass a reference to it",
    )


def decode(text: str) -> Any:
    """The value of a stored JSON text."""
    return _decode(text)


def clean_text(text: str) -> str:
    """Text that every database stores: NUL and lone surrogates become U+FFFD, pairs one letter."""
    if "\x00" in text:
        text = text.replace("\x00", "�")
    try:
        text.encode()
    except UnicodeEncodeError:
        text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def clean_result(value: object) -> object:
    """A handler's result with its texts made storable; other unfit values stay, to be refused.

    What is held several times is cleaned once and held as often, so the time it takes does not
    depend on how long the result would be when written out.
    """
    return _cleaned(value, MAX_DEPTH, {})


def _cleaned(value: object, depth: int, known: dict[int, tuple[object, object]]) -> object:
    if isinstance(value, str):
        return clean_text(value)
    if not isinstance(value, dict | list | tuple) or depth == 0:
        return value
    if id(value) in known:
        return known[id(value)][1]
    clean: Any = {} if isinstance(value, dict) else []
    known[id(value)] = (value, clean)  # with the value, whose id is its own only while it lives
    if isinstance(value, dict):
        for key, item in value.items():
            text = clean_text(key) if isinstance(key, str) else key
            clean[text] = _cleaned(item, depth - 1, known)
    else:
        clean.extend(_cleaned(item, depth - 1, known) for item in value)
    return clean


def cut(text: str, max_bytes: int) -> str:
    """``text`` storable and within ``max_bytes`` of UTF-8, cut between characters."""
    # Slicing first keeps a 5 MB message from being encoded whole.
    text = clean_text(text[: max_bytes + 1])
    raw = text.encode()
    if len(raw) <= max_bytes:
        return text
    mark = "…"
    if max_bytes < len(mark.encode()):
        mark = ""
    return raw[: max_bytes - len(mark.encode())].decode("utf-8", "ignore") + mark


class _UnfitError(Exception):
    """Something in the value cannot be stored."""


class _HeavyError(Exception):
    """The value is over the limit, however short its numbers are written."""


def _weigh(value: object, depth: int, limit: int) -> int:
    """A number of bytes that the value's text has at least; what is unfit raises."""
    kind = type(value)
    if kind is str:
        if not _is_clean_text(value):  # type: ignore[arg-type]
            raise _UnfitError
        return len(value)  # type: ignore[arg-type]
    if kind is int:
        if -_SHORT_INT < value < _SHORT_INT:  # type: ignore[operator]
            return 1
        if not -_LARGEST_INT <= value <= _LARGEST_INT:
            raise _UnfitError
        return value.bit_length() // 4  # type: ignore[attr-defined,no-any-return]
    if kind in _PLAIN:
        return 1
    if kind is float:
        if not math.isfinite(value):  # type: ignore[arg-type]
            raise _UnfitError
        return 1
    if kind not in _NESTS or depth == 0:
        raise _UnfitError
    weight = 1
    if kind is dict:
        for key, item in value.items():  # type: ignore[attr-defined]
            if type(key) is not str or not _is_clean_text(key):
                raise _UnfitError
            weight += len(key) + 2 + _weigh(item, depth - 1, limit - weight)
            if weight > limit:
                raise _HeavyError
    else:
        for item in value:  # type: ignore[attr-defined]
            weight += 1 + _weigh(item, depth - 1, limit - weight)
            if weight > limit:
                raise _HeavyError
    return weight


def _is_clean_text(text: str) -> bool:
    if text.isascii():
        return "\x00" not in text
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return "\x00" not in text


def _refuse(value: object, path: str, depth: int) -> None:
    """Walk to the first unfit value and raise with its path; the slow twin of ``_weigh``."""
    kind = type(value)
    if depth >= MAX_DEPTH and kind in _NESTS:
        raise PayloadError(path, f"nested deeper than {MAX_DEPTH} levels")
    if kind is str:
        if not _is_clean_text(value):  # type: ignore[arg-type]
            what = "a NUL character" if "\x00" in value else "a lone surrogate"  # type: ignore[operator]
            raise PayloadError(path, f"text with {what} cannot be stored")
    elif kind is int:
        if not -_LARGEST_INT <= value <= _LARGEST_INT:
            raise PayloadError(path, f"a number of more than {MAX_DIGITS} digits; pass it as text")
    elif kind is float:
        if not math.isfinite(value):  # type: ignore[arg-type]
            raise PayloadError(path, f"{value!r} is not JSON; use null or a text")
    elif kind is dict:
        for key, item in value.items():  # type: ignore[attr-defined]
            if type(key) is not str:
                raise PayloadError(path, f"key {key!r} is {_type(key)}; JSON keys are text")
            if not _is_clean_text(key):
                raise PayloadError(path, f"key {key!r} has a NUL character or a lone surrogate")
            _refuse(item, f"{path}.{key}" if key.isidentifier() else f"{path}[{key!r}]", depth + 1)
    elif kind is list or kind is tuple:
        for index, item in enumerate(value):  # type: ignore[arg-type]
            _refuse(item, f"{path}[{index}]", depth + 1)
    elif kind not in _PLAIN:
        raise PayloadError(path, f"{_type(value)} is not JSON; {_hint(value)}")


def _hint(value: object) -> str:
    if isinstance(value, bytes | bytearray | memoryview):
        return "encode it (base64) or store it elsewhere and pass a reference"
    if isinstance(value, set | frozenset):
        return "pass a sorted list"
    if hasattr(value, "isoformat"):
        return "pass its isoformat(), or declare the payload as a dataclass with that field"
    return "pass text, numbers, booleans, null, lists and dicts"


def _type(value: object) -> str:
    return type(value).__name__
