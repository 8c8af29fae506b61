"""Which fonts a PDF is drawn with.

The extra `reports` brings Noto Sans (Latin, Greek, Cyrillic, Devanagari) and Noto Sans Arabic, with
HarfBuzz, which joins, reorders and mirrors letters as these scripts ask for.
REPORT_FONTS names further TrueType or OpenType files, or directories of such, comma-separated:
for Chinese, Japanese, Korean and every other script. A character is drawn by the first font that
has it; one that none has is a box, and the report says so at its end.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from jobs.handlers.errors import ReportError

_SUFFIXES: Final = frozenset({".ttf", ".otf", ".ttc"})
_FIRST: Final = "fontpkg_noto_sans"
_OTHERS: Final = ("fontpkg_noto_sans_arabic",)


def font_files(report_fonts: Sequence[str] = ()) -> list[Path]:
    """Return the files of the fonts, in the order in which they are asked for a character.

    report_fonts: files and directories (REPORT_FONTS)
    Raises ReportError where one is missing, or there is none at all.
    """
    own = [path for place in report_fonts for path in _files(Path(place))]
    found = [*_packaged(_FIRST), *own, *(path for name in _OTHERS for path in _packaged(name))]
    if not found:
        raise ReportError(
            "a PDF needs fonts: pip install tickwork[reports], or set REPORT_FONTS to font files"
        )
    return found


def _files(place: Path) -> list[Path]:
    if place.is_dir():
        found = sorted(path for path in place.iterdir() if path.suffix.lower() in _SUFFIXES)
    else:
        found = [place] if place.is_file() else []
    if not found:
        raise ReportError(
            f"REPORT_FONTS: there is no font at {str(place)!r}; name files ending in "
            ".ttf, .otf or .ttc, or a directory of such"
        )
    return found


def _packaged(module: str) -> list[Path]:
    """The upright font of a package of fonts, if it is installed."""
    spec = importlib.util.find_spec(module)
    folders = spec.submodule_search_locations if spec else None
    files = [path for folder in folders or () for path in Path(folder, "files").glob("*.ttf")]
    return sorted(path for path in files if "Italic" not in path.name)[:1]


def needs_shaping(text: str) -> bool:
    """Whether letters of a text join, reorder, stack or run from right to left.

    Combining marks, and every script from Hebrew on up to Mongolian (U+0590 to U+18AF), which has
    those that do; for others it would only cost time.
    """
    return any("\u0300" <= char <= "\u036f" or "\u0590" <= char <= "\u18af" for char in text)
