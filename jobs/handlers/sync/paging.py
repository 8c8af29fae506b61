"""How a REST API tells where its next page is. Pure: answers in, cursors out.

LinkHeader()                              Link: <https://...>; rel="next"       (Shopify, GitHub)
NextUrl("/paging/next")                   the next page's URL in the body       (Facebook)
NextCursor("cursor", "/meta/next")        a cursor in the body, sent as `cursor`
LastItem("starting_after", "/id", "/has_more")   the last item's id             (Stripe)
PageNumber("page")                        1, 2, 3, ... until a page is empty    (WooCommerce)
Offset("offset", "limit", 100)            0, 100, 200, ... until a page is short
OnePage()                                 there is only one
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from jobs.handlers.sync.contract import PlatformDown

_ABSENT: Final = object()


@dataclass(frozen=True)
class Answer:
    """What a platform sent: the JSON, the items found in it, and its headers (lower-case names)."""

    document: Any
    items: Sequence[Any]
    headers: Mapping[str, str]


class Paging(Protocol):
    """A way to ask for page after page."""

    @property
    def cursor_is_url(self) -> bool:
        """Whether the cursor is the next page's whole URL."""
        ...

    def parameters(self, cursor: str | None) -> dict[str, str]:
        """Return what to add to the query for the page at a cursor (None: the first)."""
        ...

    def next_cursor(self, answer: Answer, cursor: str | None) -> str | None:
        """Return the cursor of the page after the one at `cursor`, None after the last."""
        ...


def at_pointer(document: Any, pointer: str, default: Any = _ABSENT) -> Any:
    """Return what a JSON pointer (RFC 6901) names, such as `/data/0/id`; "" is the whole.

    Raises PlatformDown where there is nothing, unless a default is given.
    """
    found = document
    for part in pointer.split("/")[1:]:
        name = part.replace("~1", "/").replace("~0", "~")
        if isinstance(found, Mapping) and name in found:
            found = found[name]
        elif (
            isinstance(found, list) and name.isascii() and name.isdigit() and int(name) < len(found)
        ):
            found = found[int(name)]
        elif default is not _ABSENT:
            return default
        else:
            raise PlatformDown(f"the answer has nothing at {pointer!r}")
    return found


def _text(value: Any) -> str | None:
    """A cursor as text; null, false and "" mean that there is none."""
    if value is None or value is False or value == "":
        return None
    if isinstance(value, str | int) and not isinstance(value, bool):
        return str(value)
    raise PlatformDown(f"the next page's cursor is {type(value).__name__}, not text or a number")


class _ByUrl:
    cursor_is_url = True

    def parameters(self, cursor: str | None) -> dict[str, str]:
        return {}


class _ByQuery:
    cursor_is_url = False


_LINK = re.compile(r"<([^<>]*)>([^<]*)")
_REL_NEXT = re.compile(r";\s*rel\s*=\s*(?:\"[^\"]*\bnext\b[^\"]*\"|next\b)", re.IGNORECASE)


class LinkHeader(_ByUrl):
    """The `Link` header (RFC 8288) with `rel="next"`."""

    def next_cursor(self, answer: Answer, cursor: str | None) -> str | None:
        links = _LINK.findall(answer.headers.get("link", ""))
        return next((url for url, more in links if _REL_NEXT.search(more)), None)


@dataclass(frozen=True)
class NextUrl(_ByUrl):
    """The next page's URL stands in the body, at a JSON pointer."""

    pointer: str

    def next_cursor(self, answer: Answer, cursor: str | None) -> str | None:
        return _text(at_pointer(answer.document, self.pointer, None))


@dataclass(frozen=True)
class NextCursor(_ByQuery):
    """A cursor stands in the body, at a JSON pointer, and is sent as a parameter."""

    parameter: str
    pointer: str

    def parameters(self, cursor: str | None) -> dict[str, str]:
        return {} if cursor is None else {self.parameter: cursor}

    def next_cursor(self, answer: Answer, cursor: str | None) -> str | None:
        return _text(at_pointer(answer.document, self.pointer, None))


@dataclass(frozen=True)
class LastItem(_ByQuery):
    """The next page begins after the last item of this one.

    parameter: what the item's id is sent as
    id_pointer: where in an item its id stands
    more_pointer: where in the body it says whether there is more
    """

    parameter: str
    id_pointer: str
    more_pointer: str

    def parameters(self, cursor: str | None) -> dict[str, str]:
        return {} if cursor is None else {self.parameter: cursor}

    def next_cursor(self, answer: Answer, cursor: str | None) -> str | None:
        if not answer.items or at_pointer(answer.document, self.more_pointer) is not True:
            return None
        return _text(at_pointer(answer.items[-1], self.id_pointer))


@dataclass(frozen=True)
class PageNumber(_ByQuery):
    """Pages are numbered; the first empty one is behind the last."""

    parameter: str = "page"
    first: int = 1

    def parameters(self, cursor: str | None) -> dict[str, str]:
        return {self.parameter: cursor or str(self.first)}

    def next_cursor(self, answer: Answer, cursor: str | None) -> str | None:
        return str(int(cursor or self.first) + 1) if answer.items else None


@dataclass(frozen=True)
class Offset(_ByQuery):
    """Items are counted; a page with fewer than were asked for is the last."""

    parameter: str = "offset"
    size_parameter: str = "limit"
    size: int = 100

    def parameters(self, cursor: str | None) -> dict[str, str]:
        return {self.parameter: cursor or "0", self.size_parameter: str(self.size)}

    def next_cursor(self, answer: Answer, cursor: str | None) -> str | None:
        if len(answer.items) < self.size:
            return None
        return str(int(cursor or "0") + len(answer.items))


class OnePage(_ByQuery):
    """Everything comes in one answer."""

    def parameters(self, cursor: str | None) -> dict[str, str]:
        return {}

    def next_cursor(self, answer: Answer, cursor: str | None) -> str | None:
        return None
