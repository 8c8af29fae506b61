"""The in-memory stub."""

from jobs.stores.memory.store import MemoryStore

__all__ = ["MemoryStore"]
