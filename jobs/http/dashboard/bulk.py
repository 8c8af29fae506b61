"""Many jobs at once: the number is shown and confirmed, and exactly that set is changed.

What a filter finds may change between the two. The form carries a digest of the ids that were
counted; where the filter finds others by then, the new number is shown and asked for again.
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple

from flask import Response, request
from werkzeug.exceptions import BadRequest

from jobs.core.failures import error_line
from jobs.core.job import State
from jobs.core.store import JobFilter
from jobs.http.dashboard.asked import Asked
from jobs.http.dashboard.desk import Desk, link
from jobs.ops.words import many
from jobs.runtime.steer import IDS_PER_BATCH

MOST = 10_000
_FAILURES_LOOKED_AT = 2000


class Change(NamedTuple):
    """What may be done: its words, and the stored states of the jobs it is done to."""

    verb: str
    done: str
    states: tuple[State, ...]


CHANGES = {
    "retry": Change("Retry", "put back to be run", (State.FAILED, State.CANCELLED)),
    "cancel": Change("Cancel", "cancelled", (State.PENDING, State.PROCESSING)),
    "delete": Change(
        "Delete",
        "deleted",
        (State.PENDING, State.COMPLETED, State.FAILED, State.CANCELLED),
    ),
}


class Chosen(NamedTuple):
    """The ids that are meant, oldest first; ``is_capped`` if there are more than may be changed."""

    ids: tuple[str, ...]
    is_capped: bool

    @property
    def digest(self) -> str:
        """Tells whether two are the same set."""
        return hashlib.blake2b("\n".join(self.ids).encode(), digest_size=16).hexdigest()


def confirm(desk: Desk) -> Response:
    """``GET /jobs/change``: how many there are, and the question."""
    return _ask(desk, request.args.get("change", ""))


def carry_out(desk: Desk) -> Response:
    """``POST /jobs/change``: change them, if they are still the ones that were counted."""
    name = request.form.get("change", "")
    change = CHANGES.get(name)
    if change is None:
        raise BadRequest(f"There is no change {name!r}: there are {', '.join(CHANGES)}.")
    chosen = choose(desk, change)
    if chosen.digest != request.form.get("digest"):
        return _ask(desk, name, changed=True)
    ids = chosen.ids
    done = desk.managing.these(name, ids, described=_described())
    text = f"{many(done, 'job')} {change.done}."
    if done < len(ids):
        text += f" {many(len(ids) - done, 'job')} had changed meanwhile and stayed."
    return desk.go(_back_to(), text)


def choose(desk: Desk, change: Change) -> Chosen:
    """The jobs that the request names, of those that the change may be done to."""
    values = request.values
    if values.get("error_line"):
        return _of_group(desk, values["kind"], values["error_line"], change)
    if named := values.getlist("id"):
        found = [
            job_id
            for begin in range(0, min(len(named), MOST), IDS_PER_BATCH)
            for job_id in _found(
                desk,
                JobFilter(
                    ids=tuple(named[begin : begin + IDS_PER_BATCH][: MOST - begin]),
                    tenant=desk.tenant,
                ),
                change,
            )
        ]
    else:
        where = Asked.of(values).filter(desk.tenant, desk.now)
        found = _found(desk, where, change)
    return Chosen(tuple(sorted(found)[:MOST]), len(found) > MOST)


def _found(desk: Desk, where: JobFilter, change: Change) -> list[str]:
    found: list[str] = []
    for state in change.states:
        if state in where.states:
            found += desk.store.find(where._replace(state=state), MOST + 1)
    return found


def _of_group(desk: Desk, kind: str, line: str, change: Change) -> Chosen:
    """All failed jobs of a kind with an error of that line, among the newest of them."""
    if State.FAILED not in change.states:
        raise BadRequest("These jobs have failed: they can be retried or deleted.")
    failures = desk.store.failures(_FAILURES_LOOKED_AT, desk.tenant)
    ids = [each.id for each in failures if each.kind == kind and error_line(each.error) == line]
    return Chosen(tuple(sorted(ids)), is_capped=False)


def _ask(desk: Desk, name: str, *, changed: bool = False) -> Response:
    change = CHANGES.get(name)
    if change is None:
        raise BadRequest(f"There is no change {name!r}: there are {', '.join(CHANGES)}.")
    chosen = choose(desk, change)
    values = request.values
    passed = [
        (key, value)
        for key in ("error_line", "id", *Asked._fields)
        for value in values.getlist(key)
        if value
    ]
    return desk.page(
        "change.html",
        name=name,
        change=change,
        chosen=chosen,
        most=MOST,
        changed=changed,
        passed=passed,
        described=_described(),
        back=_back_to(),
    )


def _described() -> str:
    """The set in words, for the question and the audit log."""
    values = request.values
    if values.get("error_line"):
        return f"failed {values.get('kind', '')}: {values['error_line']}"
    if ids := values.getlist("id"):
        return many(len(ids), "chosen job")
    asked = Asked.of(values)
    return ", ".join(f"{name} {value}" for name, value in asked.fields.items()) or "all jobs"


def _back_to() -> str:
    values = request.values
    if values.get("error_line"):
        return link("/failed")
    return Asked.of(values).link()
