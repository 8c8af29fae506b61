"""What keeps a runner from its jobs: told when it begins, and not at every look."""

from __future__ import annotations

import logging

from jobs.core.errors import SchemaError, StoreUnavailable


class Trouble:
    """Why jobs wait; ``said`` is ``None`` while nothing keeps them waiting."""

    def __init__(self, log: logging.Logger, failed: str) -> None:
        """``failed`` is what the log says of an error that is none of the database's own."""
        self.said: str | None = None
        self._log = log
        self._failed = failed

    def meet(self, error: Exception) -> None:
        """Log it, unless it is what was met the last time."""
        said = f"{type(error).__name__}: {error}"
        if said == self.said:
            return
        self.said = said
        if isinstance(error, (SchemaError, StoreUnavailable)):
            self._log.error("jobs wait: %s", error)
        else:
            self._log.error("%s", self._failed, exc_info=error)

    def end(self) -> bool:
        """Whether there was one until now."""
        was, self.said = self.said, None
        return was is not None
