"""How long a failed job waits before its next attempt.

A policy maps *attempts made so far* (1 after the first failure) to seconds. Policies that are data
travel with a job as JSON; a callable belongs to its kind and gets the claimed job.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from jobs.core.errors import ConfigurationError
from jobs.core.job import Claimed

DEFAULT_JITTER = 0.1
DEFAULT_CAP_SECONDS = 86_400.0
_TYPES = ("fixed", "linear", "exponential", "steps")


@dataclass(frozen=True, slots=True)
class Backoff:
    """A policy as data. Made by :func:`fixed`, :func:`linear`, :func:`exponential`, :func:`steps`.

    ``jitter`` is a fraction: 0.1 spreads each delay evenly over 90 % to 110 % of its value.
    """

    type: str
    base: float = 0.0
    factor: float = 2.0
    delays: tuple[float, ...] = ()
    cap: float = DEFAULT_CAP_SECONDS
    jitter: float = DEFAULT_JITTER

    def __post_init__(self) -> None:
        if self.type not in _TYPES:
            raise ConfigurationError(
                f"backoff type is one of {', '.join(_TYPES)}, not {self.type!r}"
            )
        if self.type == "steps" and not self.delays:
            raise ConfigurationError("a backoff list needs at least one delay in seconds")
        numbers = map(_number, (self.base, self.cap, *self.delays))
        if any(not math.isfinite(number) or number < 0 for number in numbers):
            raise ConfigurationError(f"backoff delays must be finite and not negative: {self}")
        if not 1 <= _number(self.factor) < math.inf:
            raise ConfigurationError(f"backoff factor must be 1 or more, not {self.factor!r}")
        if not 0 <= _number(self.jitter) <= 1:
            raise ConfigurationError(f"backoff jitter is a fraction of 0 to 1, not {self.jitter!r}")

    def delay(self, attempts_made: int) -> float:
        """Seconds before the next attempt, without jitter."""
        step = max(1, attempts_made)
        match self.type:
            case "fixed":
                seconds = self.base
            case "linear":
                seconds = self.base * step
            case "steps":
                seconds = self.delays[min(step, len(self.delays)) - 1]
            case _:
                seconds = self._power(step - 1)
        return min(seconds, self.cap)

    def _power(self, exponent: int) -> float:
        # The exponent is bounded before the power is taken: 2.0 ** 2000 raises OverflowError.
        if self.base == 0 or self.factor == 1:
            return self.base
        highest = math.log(max(self.cap / self.base, 1.0)) / math.log(self.factor)
        if exponent > highest + 1:
            return self.cap
        try:
            return float(self.base * self.factor**exponent)
        except OverflowError:  # from a base that is next to nothing
            return self.cap

    def to_json(self) -> str:
        """The policy as compact JSON, for the job's row."""
        return json.dumps(asdict(self), separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Backoff:
        """The policy that :meth:`to_json` wrote."""
        fields = json.loads(text)
        fields["delays"] = tuple(fields["delays"])
        return cls(**fields)


def fixed(seconds: float, *, jitter: float = DEFAULT_JITTER) -> Backoff:
    """The same delay every time."""
    cap = max(_number(seconds), DEFAULT_CAP_SECONDS)
    return Backoff("fixed", base=seconds, cap=cap, jitter=jitter)


def linear(
    seconds: float, *, cap: float = DEFAULT_CAP_SECONDS, jitter: float = DEFAULT_JITTER
) -> Backoff:
    """``seconds``, twice that, three times that, up to ``cap`` seconds."""
    return Backoff("linear", base=seconds, cap=cap, jitter=jitter)


def exponential(
    base: float,
    factor: float = 2.0,
    *,
    cap: float = DEFAULT_CAP_SECONDS,
    jitter: float = DEFAULT_JITTER,
) -> Backoff:
    """``base``, ``base * factor``, ``base * factor**2`` seconds and so on, up to ``cap``."""
    return Backoff("exponential", base=base, factor=factor, cap=cap, jitter=jitter)


def steps(delays: Sequence[float], *, jitter: float = DEFAULT_JITTER) -> Backoff:
    """The listed delays in seconds, one per attempt; the last one repeats."""
    numbers = tuple(map(_number, delays))
    cap = max((DEFAULT_CAP_SECONDS, *numbers))
    return Backoff("steps", delays=numbers, cap=cap, jitter=jitter)


BackoffLike = Backoff | float | int | Sequence[float] | Mapping[str, Any]
BackoffCallable = Callable[[Claimed], float]


def as_backoff(value: BackoffLike) -> Backoff:
    """A policy from what people write: a policy, seconds, a list of seconds, or Bull's object.

    Bull's ``{"type": "exponential" | "fixed", "delay": 2000}`` counts milliseconds, as there, and
    adds no jitter unless ``jitter`` is given.
    """
    if isinstance(value, Backoff):
        return value
    if isinstance(value, bool | str | bytes):
        raise ConfigurationError(f"{value!r} is not a backoff: {_FORMS}")
    if isinstance(value, int | float):
        return fixed(_number(value))
    if isinstance(value, Mapping):
        return _from_bull(value)
    if isinstance(value, Sequence):
        return steps(value)
    raise ConfigurationError(f"{value!r} is not a backoff: {_FORMS}")


_FORMS = (
    "use seconds, a list of seconds, fixed(), linear(), exponential(), a callable of the job, "
    'or {"type": "exponential", "delay": milliseconds}'
)


def _from_bull(value: Mapping[str, Any]) -> Backoff:
    unknown = set(value) - {"type", "delay", "factor", "jitter"}
    kind, seconds = value.get("type", "fixed"), _number(value.get("delay", 0)) / 1000
    if unknown or kind not in ("fixed", "linear", "exponential"):
        raise ConfigurationError(f"{dict(value)!r} is not a backoff: {_FORMS}")
    return Backoff(
        kind,
        base=seconds,
        factor=_number(value.get("factor", 2.0)),
        cap=max(seconds, DEFAULT_CAP_SECONDS) if kind == "fixed" else DEFAULT_CAP_SECONDS,
        jitter=_number(value.get("jitter", 0.0)),
    )


def _number(value: object) -> float:
    """The number as a float; what is none becomes NaN, which every check refuses."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return math.nan
    try:
        return float(value)
    except OverflowError:
        return math.inf


def next_delay(
    policy: Backoff | BackoffCallable, claimed: Claimed, spread: Callable[[], float] = random.random
) -> float:
    """Seconds until the next attempt of ``claimed``, jitter included, never negative.

    ``spread`` returns a number from 0 to 1; tests pass a fixed one. A callable policy that raises
    or answers nonsense falls back to 10 seconds: a broken policy must not lose the job.
    """
    if isinstance(policy, Backoff):
        seconds = policy.delay(claimed.attempt)
        return seconds * (1 + policy.jitter * (2 * spread() - 1))
    try:
        seconds = float(policy(claimed))
    except Exception:  # noqa: BLE001 - whatever a user's policy raises
        return 10.0
    return min(max(seconds, 0.0), 10 * 365 * 86_400.0) if math.isfinite(seconds) else 10.0
