"""Typed payloads, by the type of a handler's first parameter: a dataclass, a TypedDict, a msgspec
Struct or a pydantic model.

Both sides are validated: what a producer sends (:func:`dump`) and what a runner reads
(:func:`load`). msgspec does the work for all but pydantic's own models. A type that checks itself
(``__post_init__``) may raise :class:`PayloadError`, whose path is kept.
"""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import re
import typing
import uuid
from collections.abc import Collection, Mapping
from typing import Any

import msgspec

from jobs.core.codec import DEFAULT_MAX_BYTES, too_large
from jobs.core.errors import PayloadError

_RICH = (
    *(bytes, bytearray, decimal.Decimal, uuid.UUID),
    *(datetime.datetime, datetime.date, datetime.time, datetime.timedelta),
)
_MSGSPEC_PATH = re.compile(r" - at `(\$?[^`]*)`$")


def payload_type(annotation: object) -> type | None:
    """The declared payload type worth validating, or ``None`` for plain dicts and no annotation."""
    if isinstance(annotation, type) and _has_declared_fields(annotation):
        return annotation
    if typing.is_typeddict(annotation) or _is_pydantic(annotation):
        return typing.cast(type, annotation)
    return None


def dump(
    value: object, declared: type | None, max_bytes: int = DEFAULT_MAX_BYTES
) -> dict[str, Any]:
    """The payload as a plain dict fit for JSON, checked against ``declared``.

    Raises :class:`PayloadError` naming the field that does not fit, and :class:`PayloadTooLarge`
    for what cannot but be over ``max_bytes`` when written out.
    """
    if value is None:
        value = {}
    if declared is None and isinstance(value, Mapping):
        return value if type(value) is dict else dict(value)
    if declared is not None and _is_pydantic(declared):
        return _dump_pydantic(value, declared)
    if _is_pydantic(type(value)):
        value = value.model_dump(mode="json")  # type: ignore[attr-defined]
    is_instance = _has_declared_fields(value) and not isinstance(value, type)
    if not is_instance and not isinstance(value, Mapping):
        raise PayloadError("$", f"a payload is an object (a dict), not {type(value).__name__}")
    _check_breadth(value, max_bytes)
    try:
        # In two steps: dates and the like are checked as what they are, and only then made text,
        # so that bytes in a field for text are refused and not quietly encoded.
        plain = msgspec.to_builtins(value if is_instance else dict(value), builtin_types=_RICH)  # type: ignore[call-overload]
        if declared is not None:
            load(plain, declared)
        plain = msgspec.to_builtins(plain)
    except PayloadError:
        raise
    except (TypeError, ValueError, RecursionError) as error:
        raise PayloadError("$", str(error)) from error
    return typing.cast(dict[str, Any], plain)


def _check_breadth(value: object, max_bytes: int) -> None:
    """Refuse what holds so much, or the same so often, that making it plain would never end.

    Every element costs a byte of JSON at least, so nothing is refused that might fit.
    """
    left = max_bytes
    ahead: list[Any] = [value]
    while ahead:
        item = ahead.pop()
        if isinstance(item, Mapping):
            inside: Collection[Any] = item.values()
        elif isinstance(item, list | tuple | set | frozenset):
            inside = item
        elif isinstance(item, bytes | bytearray):
            inside, left = (), left - len(item)
        elif dataclasses.is_dataclass(item) and not isinstance(item, type):
            inside = [getattr(item, field.name, None) for field in dataclasses.fields(item)]
        elif isinstance(item, msgspec.Struct):
            inside = [getattr(item, name, None) for name in item.__struct_fields__]
        else:
            continue
        left -= len(inside) + 1
        if left < 0:
            raise too_large(f"over {max_bytes:,} bytes of JSON", max_bytes)
        ahead.extend(inside)


def load(plain: dict[str, Any], declared: type | None) -> Any:
    """What the handler gets: the plain dict, or an instance of ``declared`` made from it."""
    if declared is None:
        return plain
    if _is_pydantic(declared):
        try:
            return declared.model_validate(plain)  # type: ignore[attr-defined]
        except ValueError as error:
            raise _from_pydantic(error) from error
    try:
        return msgspec.convert(plain, declared)
    except msgspec.ValidationError as error:
        text = str(error)
        found = _MSGSPEC_PATH.search(text)
        path = found.group(1) if found else "$"
        if isinstance(error.__cause__, PayloadError):
            own = error.__cause__
            raise PayloadError(path + own.path.removeprefix("$"), own.reason) from None
        raise PayloadError(path, _MSGSPEC_PATH.sub("", text)) from error


def _has_declared_fields(value: object) -> bool:
    """Whether it is a dataclass or a Struct: the class, or an instance of one."""
    declared = value if isinstance(value, type) else type(value)
    return dataclasses.is_dataclass(declared) or issubclass(declared, msgspec.Struct)


def _is_pydantic(annotation: object) -> bool:
    # By shape, so that pydantic is not imported for those who do not use it.
    return isinstance(annotation, type) and hasattr(annotation, "model_validate")


def _dump_pydantic(value: object, declared: Any) -> dict[str, Any]:
    try:
        model = value if isinstance(value, declared) else declared.model_validate(value)
    except ValueError as error:
        raise _from_pydantic(error) from error
    # By alias and without computed fields: what model_validate reads back.
    dumped: dict[str, Any] = model.model_dump(mode="json", by_alias=True, round_trip=True)
    return dumped


def _from_pydantic(error: ValueError) -> PayloadError:
    details = error.errors()  # type: ignore[attr-defined]
    first = details[0] if details else {"loc": (), "msg": str(error)}
    path = "$" + "".join(
        f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"]
    )
    return PayloadError(path, str(first["msg"]))
