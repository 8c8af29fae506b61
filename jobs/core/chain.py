"""Chains: ticks that start the next one while work is left. Pure: who may go on, and how far."""

from __future__ import annotations

import re
from enum import Enum
from typing import NamedTuple

from jobs.core.ids import new_id

CHAIN_HEADER = "Tickwork-Chain"
# How a kick calls itself.
KICK_AGENT = "tickwork-kick"
_LINK = re.compile(r"([0-9a-f-]{36})/([1-9][0-9]{0,8})")


class Link(NamedTuple):
    """One tick of a chain: the chain's id, and how many ticks it has had with this one.

    >>> Link.parse("0190d2a8-7c1b-7a52-9d26-4b4f5a0c1e77/3").length
    3
    """

    chain_id: str
    length: int

    @classmethod
    def parse(cls, header: str | None) -> Link | None:
        """The link that a request's header names; ``None`` for none, and for one that is none."""
        found = _LINK.fullmatch(header or "")
        return None if found is None else cls(found[1], int(found[2]))

    def to_header(self) -> str:
        """The header's value, which :meth:`parse` reads."""
        return f"{self.chain_id}/{self.length}"


def next_link(link: Link | None) -> Link:
    """The link after this one; the first of a new chain after none."""
    return Link(new_id(), 1) if link is None else link._replace(length=link.length + 1)


class Hold(Enum):
    """What the store says to somebody who wants to go on with a chain.

    There is one chain at a time in a namespace. ``HELD``: another one has it, and will look again
    before it ends. ``SPENT``: this hour's ticks are used up.
    """

    GRANTED = "granted"
    HELD = "held"
    SPENT = "spent"
