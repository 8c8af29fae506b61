"""What is hidden of a text before anybody reads it in a log: credentials and control characters."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

# Joiners shape letters in several scripts; of the invisible characters only these are kept.
_JOINERS = frozenset("\u200c\u200d")
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
_WORDS = (
    r"(?:api|access|private|auth)[-_]?keys?|passwords?|passwd|passphrase|pwd|secrets?|tokens?|"
    r"signature|sig|credentials?|authorization|cookie"
)
_URL_PASSWORD = re.compile(r"(://[^\s/@:'\"]*):[^\s/'\"]*@")
# password=..., "token": "...", X-Amz-Signature=..., also inside a URL's query.
_NAMED = re.compile(
    rf"""(?P<name>(?<![A-Za-z0-9])[\w.-]{{0,40}}?(?:{_WORDS})["']?\s{{0,3}}[=:]\s{{0,3}})"""
    r"""(?P<value>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|(?:Bearer|Basic)\s+[^\s"',;&]+|[^\s"',;&)}\]]+)""",
    re.IGNORECASE,
)
_BEARER = re.compile(r"\b(Bearer|Basic)\s+[A-Za-z0-9._~+/=-]{6,}", re.IGNORECASE)
SHORTEST_SECRET = 4


def mask(text: str, secrets: Iterable[str] = ()) -> str:
    """``text`` without the passwords of URLs, what is named like a secret, and ``secrets``.

    >>> mask("postgresql://app:hunter2@db/shop?sslmode=require")
    'postgresql://app:***@db/shop?sslmode=require'
    >>> mask("refused: {'password': 'hunter2'}, https://x.example/?token=abc&page=2")
    "refused: {'password': ***}, https://x.example/?token=***&page=2"
    """
    for secret in secrets:
        if len(secret) >= SHORTEST_SECRET:
            text = text.replace(secret, "***")
    if "://" in text:
        text = _URL_PASSWORD.sub(r"\1:***@", text)
    if "=" in text or ":" in text:
        text = _NAMED.sub(r"\g<name>***", text)
    return _BEARER.sub(r"\1 ***", text) if " " in text else text


def on_one_line(text: str) -> str:
    """``text`` with control characters written out, line breaks included.

    >>> on_one_line("a\\nb\\x1b[2J")
    'a\\\\nb\\\\x1b[2J'
    """
    return text if text.isprintable() else "".join(map(_visible, text))


def visible(text: str) -> str:
    """``text`` with control characters written out, but for its line breaks."""
    return "\n".join(map(on_one_line, text.split("\n")))


def _visible(character: str) -> str:
    if character in _JOINERS or unicodedata.category(character) not in _HIDDEN:
        return character
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")
