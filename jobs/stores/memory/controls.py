"""What people paused and set at run time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jobs.core.controls import Control, changed_settings
from jobs.stores.memory.base import MemoryRows


class Controls(MemoryRows):
    """Controls by subject."""

    def pause(self, subject: str, *, by: str | None, because: str | None) -> None:
        with self._lock:
            now, control = self.now(), self._control(subject)
            self._controls[subject] = control._replace(
                paused_at=control.paused_at or now,
                paused_by=by,
                paused_because=because,
                changed_at=now,
                changed_by=by,
            )

    def resume(self, subject: str, *, by: str | None) -> bool:
        with self._lock:
            control = self._controls.get(subject)
            if control is None or control.paused_at is None:
                return False
            self._controls[subject] = control._replace(
                paused_at=None,
                paused_by=None,
                paused_because=None,
                changed_at=self.now(),
                changed_by=by,
            )
            return True

    def set_settings(
        self, subject: str, changes: Mapping[str, Any], *, by: str | None
    ) -> dict[str, Any]:
        with self._lock:
            control = self._control(subject)
            settings, text = changed_settings(control.settings, changes)
            self._controls[subject] = control._replace(
                settings=text, changed_at=self.now(), changed_by=by
            )
            return settings

    def _control(self, subject: str) -> Control:
        bare = Control(subject, None, None, None, None, self.now(), None)
        return self._controls.get(subject, bare)

    def controls(self) -> list[Control]:
        with self._lock:
            return [control for _, control in sorted(self._controls.items())]

    def paused(self) -> frozenset[str]:
        with self._lock:
            return self._paused()
