"""The rows to lock: made before a claim, locked by it, deleted when nobody used them for long."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, TextClause, bindparam, text

from jobs.core.limits import BreakerState, key_label
from jobs.stores.sql.claim import Claimer, in_chunks, numbered
from jobs.stores.sql.limits.wanted import Wanted

# A key's row that nobody used for so long is deleted; who uses one says so at half that time.
KEY_SECONDS = 86_400.0
# The rows made known to a process: past that many it asks anew.
MOST_KNOWN = 50_000
MOST_MISSED = 5
_DO_NOTHING = " ON CONFLICT DO NOTHING"


class LimitRows:
    """The rows in ``limits`` that one store knows of, over its statements."""

    def __init__(self, claimer: Claimer, lot: Callable[[], float] = random.random) -> None:
        self.claimer = claimer
        self.lot = lot
        self._known: dict[str, float] = {}
        self._missed: Counter[str] = Counter()
        self._built: dict[Any, TextClause] = {}

    def unknown(self, wanted: Wanted) -> dict[str, str]:
        """The names whose rows this process has not seen lately, each with a lane that has it."""
        since = time.time() - KEY_SECONDS / 2
        if all(self._known.get(name, 0) > since for name in wanted.limits):
            return {}
        if len(self._known) > MOST_KNOWN:
            self._known.clear()
        return {
            name: lane
            for lane, names in wanted.lanes.items()
            for name in names
            if self._known.get(name, 0) <= since
        }

    def make(
        self, connection: Connection, unknown: Mapping[str, str], parameters: dict[str, Any]
    ) -> None:
        """Make the rows that are missing, and delete as many of keys no longer used."""
        s = self._statements
        aged = s.sql.later(f"-{KEY_SECONDS / 2}")
        read = self._once(
            "present",
            f"SELECT name, CASE WHEN used_at < {aged} THEN 1 ELSE 0 END AS aged FROM {s.limits} "
            "WHERE namespace = :namespace AND name IN :names",
        )
        rows = connection.execute(read, {**parameters, "names": list(unknown)})
        present = {row.name: row.aged for row in rows}
        if old := sorted(name for name, is_aged in present.items() if is_aged):
            refresh = self._once(
                "refresh",
                f"UPDATE {s.limits} SET used_at = {s.sql.now} "
                "WHERE namespace = :namespace AND name IN :names",
            )
            connection.execute(refresh, {**parameters, "names": old})
        missing = {name: lane for name, lane in unknown.items() if name not in present}
        if missing:
            self._insert(connection, missing, parameters)
            self._delete_idle(connection, missing, parameters)
        self._known.update(dict.fromkeys(unknown, time.time()))

    def _insert(
        self, connection: Connection, missing: Mapping[str, str], parameters: dict[str, Any]
    ) -> None:
        s = self._statements
        labels = self._labels(connection, missing, parameters)
        verb, rest = ("INSERT IGNORE", "") if s.sql.name == "mysql" else ("INSERT", _DO_NOTHING)
        insert = self._once(
            "make",
            f"{verb} INTO {s.limits} (namespace, name, label, used_at) "
            f"VALUES (:namespace, :name, :label, {s.sql.now}){rest}",
        )
        connection.execute(
            insert,
            [{**parameters, "name": name, "label": labels.get(name)} for name in sorted(missing)],
        )

    def _delete_idle(
        self, connection: Connection, missing: Mapping[str, str], parameters: dict[str, Any]
    ) -> None:
        s = self._statements
        old = self._once(
            "old",
            f"SELECT name FROM {s.limits} WHERE namespace = :namespace "
            f"AND used_at < {s.sql.later(f'-{KEY_SECONDS}')} AND name LIKE 'key/%' "
            "AND opened_at IS NULL ORDER BY used_at LIMIT :many",
        )
        names = connection.execute(old, {**parameters, "many": 2 * len(missing)}).scalars()
        if gone := sorted(set(names) - missing.keys()):
            self._delete_keys(connection, gone, parameters)

    def _delete_keys(
        self, connection: Connection, names: list[str], parameters: dict[str, Any]
    ) -> None:
        s = self._statements
        skip = "" if s.sql.name == "sqlite" else " FOR UPDATE SKIP LOCKED"
        lock = self._once(
            "idle keys",
            f"SELECT name FROM {s.limits} WHERE namespace = :namespace AND name IN :names "
            f"AND opened_at IS NULL ORDER BY name{skip}",
        )
        idle = list(connection.execute(lock, {**parameters, "names": names}).scalars())
        if idle:
            delete = self._once(
                "delete keys",
                f"DELETE FROM {s.limits} WHERE namespace = :namespace AND name IN :names",
            )
            connection.execute(delete, {**parameters, "names": idle})

    def _labels(
        self, connection: Connection, unknown: Mapping[str, str], parameters: dict[str, Any]
    ) -> dict[str, str]:
        """What the digests of keys stand for, from a row of each lane."""
        keys = {name: lane for name, lane in unknown.items() if name.startswith("key/")}
        s, labels = self._statements, {}
        for chunk in in_chunks(list(keys)):
            each = (
                f"SELECT * FROM (SELECT lane, tenant, concurrency_key FROM {s.jobs} "
                "WHERE namespace = :namespace AND state = 'pending' "
                f"AND lane = :lane_{number} LIMIT 1) AS lane_{number}"
                for number in range(len(chunk))
            )
            found = connection.execute(
                self._once(("labels", len(chunk)), " UNION ALL ".join(each)),
                {**parameters, **numbered("lane", [keys[name] for name in chunk])},
            )
            by_lane = {row.lane: (row.tenant, row.concurrency_key) for row in found}
            for name in chunk:
                tenant, key = by_lane.get(keys[name], ("", None))
                labels[name] = key_label(tenant, key)
        return labels

    def _lock(
        self, connection: Connection, names: Collection[str], parameters: dict[str, Any]
    ) -> dict[str, BreakerState]:
        """The rows of these names, locked in their order; of keys, those that are free."""
        keys = sorted(name for name in names if name.startswith("key/"))
        others = sorted(name for name in names if not name.startswith("key/"))
        found = {**self._read_locked(connection, keys, parameters, " SKIP LOCKED")}
        found.update(self._read_locked(connection, others, parameters, ""))
        for name in names:
            if name in found:
                self._missed.pop(name, None)
                continue
            # Another's just now; if it is so again and again, perhaps the row is gone.
            self._missed[name] += 1
            if self._missed[name] >= MOST_MISSED or not name.startswith("key/"):
                self._known.pop(name, None)
        return found

    def _read_locked(
        self, connection: Connection, names: list[str], parameters: dict[str, Any], skip: str
    ) -> dict[str, BreakerState]:
        if not names:
            return {}
        s = self._statements
        lock = "" if s.sql.name == "sqlite" else f" FOR UPDATE{skip}"
        statement = self._once(
            ("lock", skip),
            "SELECT name, window_at, successes, failures, opened_at, open_until "
            f"FROM {s.limits} WHERE namespace = :namespace AND name IN :names ORDER BY name{lock}",
        )
        rows = connection.execute(statement, {**parameters, "names": names})
        return {row[0]: self._state(row[1:]) for row in rows}

    def _state(self, row: Sequence[Any]) -> BreakerState:
        def instant(value: Any) -> datetime | None:
            return None if value is None else self._statements.sql.read_instant(value)

        return BreakerState(instant(row[0]), row[1], row[2], instant(row[3]), instant(row[4]))

    @property
    def _statements(self) -> Any:
        return self.claimer.statements

    def _once(self, key: Any, statement: str) -> TextClause:
        built = self._built.get(key)
        if built is None:
            built = text(statement)
            for name in ("names", "ids"):
                if f":{name} " in f"{statement} ":
                    built = built.bindparams(bindparam(name, expanding=True))
            self._built[key] = built
        return built

    @property
    def _postgresql(self) -> bool:
        return bool(self._statements.sql.name == "postgresql")
