"""The sheets of a PDF report: fonts, headers, footers, text in any script."""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, cast

from fpdf import FPDF
from fpdf.enums import TextMode

from jobs.handlers.reports.fonts import needs_shaping

if TYPE_CHECKING:
    from fpdf.fonts import TTFFont

log = logging.getLogger("jobs.handlers.reports")

INK: Final = (31, 41, 55)
QUIET: Final = (107, 114, 128)
HAIRLINE: Final = (209, 213, 219)
SHADE: Final = (241, 245, 249)
MARGIN_MM: Final = 16.0
_LINE_HEIGHT: Final = 0.5
"""Millimetres of a line for each point of its font size."""

Align = Literal["L", "R", "C"]


class Sheet(FPDF):
    """Pages with a running head and `Page 1 of 3`.

    fonts: files, in the order in which they are asked for a character
    title, aside: what the head says on the left and on the right, from the second page on
    made_at: when the report was asked for
    """

    def __init__(
        self, fonts: Sequence[Path], *, title: str, aside: str, made_at: dt.datetime, wide: bool
    ) -> None:
        super().__init__("landscape" if wide else "portrait", "mm", "A4")
        self._title, self._aside = title, aside
        self._foot = f"{made_at:%Y-%m-%d %H:%M} UTC"
        self.missing: set[str] = set()
        self.set_margins(MARGIN_MM, MARGIN_MM, MARGIN_MM)
        self.set_auto_page_break(True, margin=MARGIN_MM + 6)
        self.set_title(title)
        self.set_creator("Tickwork")
        self.set_lang("en")
        self.set_creation_date(made_at)
        families = [f"font{number}" for number, _ in enumerate(fonts)]
        for family, path in zip(families, fonts, strict=True):
            self.add_font(family, "", path)
        self._drawable: set[int] = set()
        for family in families:
            self._drawable.update(cast("TTFFont", self.fonts[family]).cmap)
        self._stand_in = "\ufffd" if 0xFFFD in self._drawable else "?"
        self.set_font(families[0], "", 9)
        self.c_margin = 1.4
        # Fonts are of one weight: what is bold is drawn with a thicker outline.
        self.set_fallback_fonts(families[1:], exact_match=False)
        self.set_text_color(*INK)
        self.set_draw_color(*HAIRLINE)
        self.set_line_width(0.2)
        self.add_page()

    def header(self) -> None:
        if self.page_no() == 1:
            return
        with self._as_it_was():
            self.set_font_size(8)
            self.set_text_color(*QUIET)
            self.set_y(MARGIN_MM - 8)
            half = self.epw / 2
            self.text_cell(half, self.fitted(self._title, half))
            self.text_cell(half, self.fitted(self._aside, half), align="R")
        self.set_y(MARGIN_MM)

    def footer(self) -> None:
        with self._as_it_was():
            self.set_font_size(8)
            self.set_text_color(*QUIET)
            self.set_y(-MARGIN_MM + 2)
            third = self.epw / 3
            self.text_cell(third, self._foot)
            # In the middle, since {nb} is not yet as wide as what will stand there.
            self.text_cell(third, f"Page {self.page_no()} of {{nb}}", align="C")

    @contextmanager
    def _as_it_was(self) -> Iterator[None]:
        """A page may break anywhere: what is set for its head and foot must not stay."""
        size, color = self.font_size_pt, self.text_color
        yield
        self.set_font_size(size)
        self.text_color = color

    @contextmanager
    def bold(self) -> Iterator[None]:
        """Draw what is within, on one page, with a thicker outline."""
        outline = self.font_size * 0.035
        with self.local_context(text_mode=TextMode.FILL_STROKE, line_width=outline):
            self.set_draw_color(*INK)
            yield

    def shape(self, text: str) -> str:
        """Make ready for a text: shaping where its script needs it.

        Returns it with a sign in place of each character that no font has, which is noted.
        """
        missing = {char for char in text if ord(char) not in self._drawable and not char.isspace()}
        if missing:
            self.missing |= missing
            text = text.translate(dict.fromkeys(map(ord, missing), self._stand_in))
        self.set_text_shaping(needs_shaping(text))
        return text

    def line_height(self) -> float:
        """Millimetres of a line of the font's size."""
        return float(self.font_size_pt) * _LINE_HEIGHT

    def width_of(self, text: str) -> float:
        """Millimetres of a text on one line."""
        return float(self.get_string_width(self.shape(text)))

    def text_cell(self, width: float, text: str, *, align: Align = "L") -> None:
        """Write a text on one line, and go to its right."""
        text = self.shape(text)
        self.cell(width, self.line_height(), text, align=align)

    def fitted(self, text: str, width: float) -> str:
        """Return a text, cut with an ellipsis where it is wider than so many millimetres."""
        room = width - 2 * self.c_margin
        if self.width_of(text) <= room:
            return text
        low, high = 0, len(text)
        while low < high:
            middle = (low + high + 1) // 2
            if self.width_of(f"{text[:middle]}…") <= room:
                low = middle
            else:
                high = middle - 1
        return f"{text[:low].rstrip()}…"

    def wrapped(self, text: str, width: float, most: int) -> list[str]:
        """Return a text as lines so wide, `most` of them at most, the last one cut."""
        if self.width_of(text) <= width - 2 * self.c_margin:
            return [text]
        lines = self.multi_cell(width, text=self.shape(text), dry_run=True, output="LINES")
        found = cast("list[str]", lines)
        if len(found) <= most:
            return found
        return [*found[: most - 1], self.fitted(" ".join(found[most - 1 :]), width)]

    def room(self) -> float:
        """Millimetres left on this page."""
        return float(self.page_break_trigger - self.get_y())

    def heading(self, text: str, size_pt: float, *, keep_mm: float) -> None:
        """Write a heading; on a new page if less than `keep_mm` would be left under it."""
        self.set_font_size(size_pt)
        lines = self.wrapped(text, self.epw, 3)
        if self.room() < len(lines) * self.line_height() + keep_mm:
            self.add_page()
        with self.bold():
            for line in lines:
                self.set_x(MARGIN_MM)
                self.text_cell(self.epw, line)
                self.ln(self.line_height())
        self.set_font_size(9)

    def note(self, text: str) -> None:
        """Write a quiet line."""
        self.set_font_size(8)
        self.set_text_color(*QUIET)
        for line in self.wrapped(text, self.epw, 6):
            if self.room() < self.line_height():
                self.add_page()
            self.set_x(MARGIN_MM)
            self.text_cell(self.epw, line)
            self.ln(self.line_height())
        self.set_text_color(*INK)
        self.set_font_size(9)
