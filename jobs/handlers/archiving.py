"""Writes datasets into one file, in constant memory: plain if it is one, zipped if there are more.

Each dataset is read in a transaction of its own, so the parts of an archive may be moments apart.
"""

from __future__ import annotations

import hashlib
import time
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import IO, Any, Final

import sqlalchemy as sa

from jobs.handlers.errors import DatasetError, FormatError
from jobs.handlers.parquet import CONTENT_TYPE as PARQUET
from jobs.handlers.parquet import check_parquet, write_parquet
from jobs.handlers.source import Source
from jobs.handlers.watching import WRITING_ENDS_AT, Share, Watch
from jobs.handlers.writers import CONTENT_TYPES, write_rows

FORMATS: Final[Mapping[str, str]] = {**CONTENT_TYPES, "parquet": PARQUET}
"""The file formats and their media types."""
ZIP: Final = "application/zip"


@dataclass(frozen=True, slots=True)
class Part:
    """One dataset of an archive.

    name: the file's name in the archive, without its ending
    statement: what gives the rows
    count: whether the rows are counted beforehand
    columns: those written, by the headings that they get; all of them as they are called if None
    """

    name: str
    statement: sa.Executable
    count: bool = True
    columns: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class FileFormat:
    """How rows are written: the format's name, and whether formulas in a CSV are defused."""

    name: str = "csv"
    spreadsheet_safe: bool = False

    def check(self) -> None:
        """Raise FormatError for a format that there is not, or that cannot be written here."""
        if self.name not in FORMATS:
            raise FormatError(
                f"no file format {self.name!r:.60}; choose one of: {', '.join(FORMATS)}"
            )
        if self.name == "parquet":
            check_parquet()


@dataclass(frozen=True, slots=True)
class Archive:
    """What was written: rows by part, bytes of the whole file, and their SHA-256 in hex."""

    rows: Mapping[str, int]
    bytes: int
    sha256: str

    @property
    def total_rows(self) -> int:
        return sum(self.rows.values())


def archive_name(parts: Sequence[Part], file_format: FileFormat, whole: str) -> tuple[str, str]:
    """Return the file's name and media type: the part's own if it is one, a zip called `whole`."""
    if len(parts) == 1:
        return f"{parts[0].name}.{file_format.name}", FORMATS[file_format.name]
    return f"{whole}.zip", ZIP


def write_parts(
    file: IO[bytes], parts: Sequence[Part], source: Source, file_format: FileFormat, watch: Watch
) -> Archive:
    """Write the rows of each part into a file open for reading and writing bytes.

    source: the database to read from
    watch: how it reports; its checkpoint is also called before each part
    Returns what was written; the file stands at its end.
    """
    expected = [source.count(part.statement) if part.count else None for part in parts]
    rows: dict[str, int] = {}
    several = len(parts) > 1
    # The zip is written into a file that can be sought in, so that every reader opens it.
    archive = zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) if several else None
    with archive or nullcontext():
        for part, expected_rows, share in zip(
            parts, expected, shares_of(parts, expected), strict=True
        ):
            watch.checkpoint()
            watch.progress(int(share.first), f"{share.prefix}writing")
            name = f"{part.name}.{file_format.name}"
            with (
                source.stream(part.statement) as found,
                _entry(archive, name) if archive else nullcontext(file) as out,
            ):
                columns, values = projected(found.columns, found, part.columns)
                watched = watch.over(values, expected_rows, share)
                rows[part.name] = _write(out, columns, watched, file_format)
    return sealed(file, rows)


def sealed(file: IO[bytes], rows: Mapping[str, int]) -> Archive:
    """Return what was written: the whole file measured and hashed. It stands at its end then."""
    file.flush()
    size_bytes = file.seek(0, 2)
    file.seek(0)
    digest = hashlib.file_digest(file, "sha256")  # type: ignore[arg-type]
    return Archive(rows, size_bytes, digest.hexdigest())


def projected(
    columns: Sequence[str], rows: Iterable[Sequence[Any]], wanted: Mapping[str, str] | None
) -> tuple[Sequence[str], Iterable[Sequence[Any]]]:
    """Return the wanted columns, by their headings, and the rows with these values alone.

    Raises DatasetError for a wanted column that there is not.
    """
    if wanted is None:
        return columns, rows
    for name in wanted:
        if name not in columns:
            raise DatasetError(f"there is no column {name!r}; the columns: {', '.join(columns)}")
    places = [columns.index(name) for name in wanted]
    return list(wanted.values()), ([row[place] for place in places] for row in rows)


def _entry(archive: zipfile.ZipFile, name: str) -> IO[bytes]:
    """Begin a file in a zip. How long it will be is not known, and it may be more than 4 GiB."""
    entry = zipfile.ZipInfo(name, time.gmtime()[:6])
    entry.compress_type = archive.compression
    entry.external_attr = 0o600 << 16
    return archive.open(entry, "w", force_zip64=True)


def _write(
    out: IO[bytes],
    columns: Sequence[str],
    rows: Iterable[Sequence[Any]],
    file_format: FileFormat,
) -> int:
    if file_format.name == "parquet":
        return write_parquet(out, columns, rows).total_rows
    return write_rows(
        out,
        columns,
        rows,
        file_format=file_format.name,
        spreadsheet_safe=file_format.spreadsheet_safe,
    ).total_rows


def shares_of(parts: Sequence[Part], expected: Sequence[int | None]) -> list[Share]:
    """Return parts of the progress by rows where all are counted, of one size where one is not."""
    counted = [each for each in expected if each is not None]
    known = len(counted) == len(parts) and sum(counted) > 0
    weights = [float(each) for each in counted] if known else [1.0] * len(parts)
    shares, done = [], 0.0
    for number, (part, weight) in enumerate(zip(parts, weights, strict=True), start=1):
        prefix = f"{part.name} ({number} of {len(parts)}): " if len(parts) > 1 else ""
        first = WRITING_ENDS_AT * done / sum(weights)
        done += weight
        shares.append(Share(first, WRITING_ENDS_AT * done / sum(weights), prefix))
    return shares
