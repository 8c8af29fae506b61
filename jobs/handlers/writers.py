"""Streams rows into a CSV, JSON Lines or JSON file, in constant memory.

CSV follows RFC 4180: commas, lines ended by CR LF, a header row, UTF-8 without a byte order mark,
and a field quoted only when it holds a comma, a quote or a line break. NULL is an empty field and
the empty string is a quoted one (`""`), the convention of PostgreSQL's COPY; in a file of one
column both are `""`, because an empty line would be no row to most readers.

How values are written (a JSON file differs only where it is said):

- numbers as they are; `Decimal` with all its digits and no exponent (in JSON a string, since most
  readers would cut a number to 15 digits); NaN and infinities as `NaN`, `Infinity`, `-Infinity`
  (in JSON strings)
- booleans as `true` and `false`
- date, time and datetime in ISO 8601; an interval as `[-]hours:MM:SS[.ffffff]`
- bytes as base64; UUID in its usual form; an enum member by its name, as SQLAlchemy stores it
- dict and list (JSON columns, arrays) as compact JSON (in JSON they are nested)
- anything else by `str()`
"""

from __future__ import annotations

import base64
import datetime as dt
import enum
import hashlib
import io
import json
import math
import re
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import IO, Any, Final

from jobs.handlers.errors import FormatError

CONTENT_TYPES: Final[Mapping[str, str]] = {
    "csv": "text/csv; charset=utf-8",
    "json": "application/json",
    "jsonl": "application/x-ndjson",
}

_BUFFER_BYTES: Final = 128 * 1024


@dataclass(frozen=True, slots=True)
class Written:
    """What was written: rows (without the header), bytes, and the SHA-256 of the bytes in hex."""

    total_rows: int
    bytes: int
    sha256: str


def check_format(name: str) -> str:
    """Return the name of a file format, `csv`, `json` or `jsonl`; raise FormatError otherwise."""
    if name not in tuple(CONTENT_TYPES):
        raise FormatError(f"no file format {name!r:.60}; choose one of: {', '.join(CONTENT_TYPES)}")
    return name


def write_rows(
    file: IO[bytes],
    columns: Sequence[str],
    rows: Iterable[Sequence[Any]],
    *,
    file_format: str = "csv",
    spreadsheet_safe: bool = False,
) -> Written:
    """Write rows into a binary file, one at a time.

        with open("orders.csv", "wb") as file:
            write_rows(file, ["id", "name"], [(1, "Łódź"), (2, None)])

    file: open for writing bytes; it is neither closed nor flushed
    columns: the names, in the order of the values
    rows: any iterable of sequences; read once
    file_format: `csv`, `json` (one array) or `jsonl` (one object a line)
    spreadsheet_safe: defuse formulas (see `defuse_formula`); it concerns CSV only, since
        spreadsheets do not evaluate JSON
    Returns the number of rows, the number of bytes and their SHA-256.
    Raises FormatError for an unknown format, and whatever `rows` raises; what was written until
    then stays in the file.
    """
    check_format(file_format)
    tally = Tally(file)
    # backslashreplace concerns lone surrogates alone, which UTF-8 cannot hold. They come out of
    # JSON columns, and `\ud800` is how JSON spells them.
    text = io.TextIOWrapper(
        io.BufferedWriter(tally, _BUFFER_BYTES),
        encoding="utf-8",
        errors="backslashreplace",
        newline="",
    )
    try:
        if file_format == "csv":
            total_rows = _write_csv(text, columns, rows, spreadsheet_safe=spreadsheet_safe)
        else:
            total_rows = _write_json(text, columns, rows, array=file_format == "json")
        text.flush()
    finally:
        tally.file = None
    return Written(total_rows, tally.bytes, tally.digest.hexdigest())


class Tally(io.RawIOBase):
    """Passes bytes on to a file, and counts and hashes them on the way.

    Without a file it swallows them: buffers above it that hold a rest write it when they are
    collected, at a time when the caller may have closed the file.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self.file: IO[bytes] | None = file
        self.bytes = 0
        self.digest = hashlib.sha256()

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        # The buffer belongs to the BufferedWriter above; a file that keeps it would see it change.
        block = bytes(data)
        if self.file is not None:
            self.file.write(block)
            self.digest.update(block)
            self.bytes += len(block)
        return len(block)


# --- CSV


def _write_csv(
    out: io.TextIOWrapper,
    columns: Sequence[str],
    rows: Iterable[Sequence[Any]],
    *,
    spreadsheet_safe: bool,
) -> int:
    cell = _safe_csv_text if spreadsheet_safe else _csv_text
    renderers: dict[type, Callable[[Any], str]] = {type(None): lambda _: "", str: cell}

    def render(value: Any) -> str:
        kind = type(value)
        renderer = renderers.get(kind)
        if renderer is None:
            renderer = renderers[kind] = _csv_renderer(value, cell)
        return renderer(value)

    out.write(",".join(cell(name) for name in columns) + "\r\n")
    total_rows = 0
    for row in rows:
        # A row of one NULL would be an empty line, which readers skip.
        out.write((",".join(map(render, row)) or '""') + "\r\n")
        total_rows += 1
    return total_rows


def _csv_renderer(example: Any, cell: Callable[[str], str]) -> Callable[[Any], str]:
    plain = _plain_renderer(example)
    if _is_number(example):
        return plain
    return lambda value: cell(plain(value))


_needs_quotes = re.compile(r'[",\r\n]').search


def _csv_text(text: str) -> str:
    if text and not _needs_quotes(text):
        return text
    return '"' + text.replace('"', '""') + '"'


def _safe_csv_text(text: str) -> str:
    return _csv_text(defuse_formula(text))


# The last four are the full-width forms of the four before them.
_starts_like_a_formula = re.compile(r"[\t\r\n\0]|\s*[=+\-@\uff1d\uff0b\uff0d\uff20]").match


def defuse_formula(text: str) -> str:
    """Put an apostrophe before a text that a spreadsheet could take for a formula.

    The rule is OWASP's (the page "CSV Injection", and ASVS 5.0, requirement 1.2.10): a text whose
    first character is `=`, `+`, `-`, `@`, their full-width forms, tab, carriage return, line feed
    or NUL gets an apostrophe in front. Blanks before such a character do not hide it. Only texts
    are changed: -5 as a number stays -5, while the text "-5" becomes "'-5".

    What it cannot do: a spreadsheet set to another separator than the comma cuts cells elsewhere,
    and Excel may drop the apostrophe when it saves the file again.
    """
    return "'" + text if _starts_like_a_formula(text) else text


# --- JSON


_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode


def _write_json(
    out: io.TextIOWrapper,
    columns: Sequence[str],
    rows: Iterable[Sequence[Any]],
    *,
    array: bool,
) -> int:
    names = distinct(columns)
    start, between, end = ("[\n", ",\n", "\n]\n") if array else ("", "\n", "\n")
    total_rows = 0
    for row in rows:
        out.write(between if total_rows else start)
        out.write(_encode(dict(zip(names, map(_json_value, row), strict=True))))
        total_rows += 1
    if total_rows:
        out.write(end)
    elif array:
        out.write("[]\n")
    return total_rows


def distinct(columns: Sequence[str]) -> list[str]:
    """Number repeated names (`id`, `id_2`): an object would silently keep only the last of them."""
    taken = set(columns)
    seen: set[str] = set()
    names = []
    for column in columns:
        name, number = column, 2
        while name in seen or (name != column and name in taken):
            name, number = f"{column}_{number}", number + 1
        seen.add(name)
        names.append(name)
    return names


_AS_THEY_ARE: Final = frozenset({str, int, bool, type(None)})


def _json_value(value: Any) -> Any:
    if type(value) in _AS_THEY_ARE:
        return value
    if _is_number(value) and not isinstance(value, Decimal):
        if isinstance(value, int):
            return int(value)
        return float(value) if math.isfinite(value) else _float_text(value)
    if isinstance(value, Mapping):
        return {str(key): _json_value(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_json_value(item) for item in value]
    return _plain_renderer(value)(value)


# --- values as plain text


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float, Decimal)) and not isinstance(value, enum.Enum)


def _float_text(value: float) -> str:
    if math.isfinite(value):
        return float.__repr__(value)
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _interval_text(value: dt.timedelta) -> str:
    minutes, seconds = divmod(abs(value) // dt.timedelta(seconds=1), 60)
    hours, minutes = divmod(minutes, 60)
    fraction = f".{abs(value).microseconds:06}" if value.microseconds else ""
    return f"{'-' if value < dt.timedelta() else ''}{hours}:{minutes:02}:{seconds:02}{fraction}"


def _json_text(value: Any) -> str:
    return _encode(_json_value(value))


# In this order, because bool is an int, datetime is a date, and an enum member can be a str.
_PLAIN: Final[Sequence[tuple[type | tuple[type, ...], Callable[[Any], str]]]] = (
    (enum.Enum, lambda value: str(value.name)),
    (bool, lambda value: "true" if value else "false"),
    (int, int.__repr__),
    (float, _float_text),
    (Decimal, lambda value: format(value, "f")),
    (str, str.__str__),
    ((dt.date, dt.time), lambda value: str(value.isoformat())),
    (dt.timedelta, _interval_text),
    (uuid.UUID, str),
    (
        (bytes, bytearray, memoryview),
        lambda value: base64.b64encode(value).decode("ascii"),
    ),
    ((Mapping, list, tuple, set, frozenset), _json_text),
)


def plain_text(value: Any) -> str:
    """Return a value as text, as a CSV would have it without its quotes."""
    return _plain_renderer(value)(value).encode("utf-8", "backslashreplace").decode("utf-8")


def _plain_renderer(example: Any) -> Callable[[Any], str]:
    """Return the function that turns values of the example's type into text."""
    for kinds, renderer in _PLAIN:
        if isinstance(example, kinds):
            return renderer
    return str
