"""What nobody is shown: values of fields that hold secrets, and secrets in running text.

A pure rule, for lists, logs and exports alike. It goes by names: a field called ``password`` is
hidden wherever it stands, one called ``note`` is not, whatever it holds.
"""

from __future__ import annotations

import dataclasses
import re
import typing
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from jobs.core.sealed import SHOWN, is_sealed

HIDDEN = "[redacted]"
# Parts of names, without case, dashes and underscores: `API-Key` and `clientApiKey` are both meant.
SECRET_PARTS = (
    *("password", "passwd", "passphrase", "secret", "token", "authorization", "apikey"),
    *("privatekey", "accesskey", "credential", "cookie", "signature", "connectionstring"),
)
# Too short to be looked for inside other words.
SECRET_NAMES = frozenset({"pwd", "pass", "pin", "otp", "cvv", "cvc", "ssn", "dsn", "auth", "jwt"})
_SPARED = frozenset({"idempotencykey", "concurrencykey", "dedupekey"})
_NO_LETTER = re.compile(r"[^a-z0-9]")
_DEEPEST = 100


class Secret:
    """A mark for a field of a payload's type: ``card: Annotated[str, Secret]``."""


class Redactor:
    """Hides the values of secret names; ``more`` are further names, matched whole."""

    def __init__(self, more: Iterable[str] = ()) -> None:
        self._names = SECRET_NAMES | {_plain(name) for name in more}
        words = "|".join(sorted(map(_loosely, (*SECRET_PARTS, *self._names)), key=len)[::-1])
        # `password=x`, `"token": "x"`, `Authorization: Bearer x`
        self._said = re.compile(
            rf"(?i)((?:^|[^a-z0-9])[\"']?[\w-]{{0,40}}?(?:{words})[\w-]{{0,20}}[\"']?\s*[:=]\s*)"
            r"(?:(bearer|basic)\s+)?(\"[^\"]*\"|'[^']*'|[^\s,;&}\])]+)"
        )

    def hides(self, name: str) -> bool:
        """Whether a field of this name is not shown.

        >>> Redactor().hides("X-Api-Key"), Redactor().hides("dedupe_key")
        (True, False)
        """
        plain = _plain(name)
        if plain in _SPARED:
            return False
        return plain in self._names or any(part in plain for part in SECRET_PARTS)

    def value(self, value: Any, also: Collection[str] = (), _depth: int = 0) -> Any:
        """JSON with the values of secret names hidden at any depth; ``also`` are more names."""
        if _depth > _DEEPEST:
            return HIDDEN
        if is_sealed(value):
            return SHOWN
        if isinstance(value, Mapping):
            return {
                name: HIDDEN
                if inner is not None and (name in also or self.hides(str(name)))
                else self.value(inner, also, _depth + 1)
                for name, inner in value.items()
            }
        if isinstance(value, list | tuple):
            return [self.value(inner, also, _depth + 1) for inner in value]
        return value

    def text(self, text: str | None) -> str | None:
        """Running text with passwords in URLs, bearers and ``name=value`` of secret names hidden.

        >>> Redactor().text("no luck with token=abc at https://u:p@host/")
        'no luck with token=[redacted] at https://u:[redacted]@host/'
        """
        if text is None:
            return None
        hidden = _URL_PASSWORD.sub(rf"\1{HIDDEN}@", text)
        hidden = self._said.sub(rf"\1{HIDDEN}", hidden)
        return _BEARER.sub(rf"\1 {HIDDEN}", hidden)

    def job(self, shown: Mapping[str, Any], also: Collection[str] = ()) -> dict[str, Any]:
        """A job as plain values (``Job.as_dict()``), fit to be shown."""
        hidden = dict(shown)
        for name in ("payload", "result", "cursor", "chain"):
            if hidden.get(name) is not None:
                hidden[name] = self.value(hidden[name], also)
        hidden["error"] = self.text(hidden.get("error"))
        hidden["progress_note"] = self.text(hidden.get("progress_note"))
        hidden["errors"] = [
            {
                name: self.text(inner) if isinstance(inner, str) else inner
                for name, inner in entry.items()
            }
            for entry in hidden.get("errors") or ()
        ]
        return hidden


_URL_PASSWORD = re.compile(r"(://[^\s:@/?]*:)[^\s@/]+@")
_BEARER = re.compile(r"(?i)\b(bearer|basic)\s+(?!\[redacted)[a-z0-9._~+/=-]{6,}")


def marked(declared: type | None) -> frozenset[str]:
    """The fields of a payload's type that are marked: ``Annotated[..., Secret]``, ``SecretStr``.

    Those of dataclasses, TypedDicts and pydantic models inside it as well.
    """
    found: set[str] = set()
    seen: set[Any] = set()
    ahead: list[Any] = [declared]
    while ahead:
        each = ahead.pop()
        if each is None or each in seen or not _has_fields(each):
            continue
        seen.add(each)
        for name, hint in _hints(each).items():
            if _is_marked(hint):
                found.add(name)
            ahead += [inner for inner in _parts(hint) if isinstance(inner, type)]
    return frozenset(found)


def _hints(each: Any) -> Mapping[str, Any]:
    try:
        return typing.get_type_hints(each, include_extras=True)
    except Exception:  # noqa: BLE001 - a name that only a type checker can see
        return getattr(each, "__annotations__", {})


def _has_fields(each: Any) -> bool:
    return (
        dataclasses.is_dataclass(each)
        or typing.is_typeddict(each)
        or hasattr(each, "model_validate")
    )


def _is_marked(hint: Any) -> bool:
    marks = getattr(hint, "__metadata__", ())
    if any(mark is Secret or isinstance(mark, Secret) for mark in marks):
        return True
    # By name, so that pydantic is not imported for those who do not use it.
    return any(
        getattr(part, "__name__", "") in ("SecretStr", "SecretBytes") for part in _parts(hint)
    )


def _parts(hint: Any) -> Iterable[Any]:
    yield hint
    for inner in typing.get_args(hint):
        yield from _parts(inner)


def _plain(name: str) -> str:
    return _NO_LETTER.sub("", name.lower())


def _loosely(word: str) -> str:
    """A word with dashes and underscores anywhere: ``api_key`` for ``apikey``."""
    return "[_-]?".join(map(re.escape, word))
