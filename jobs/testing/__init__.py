"""Help for testing jobs: a clock that moves when told to, and ticks until nothing is left to do.

>>> from jobs import Tickwork
>>> from jobs.testing import ManualClock, drain
>>> clock = ManualClock()
>>> tickwork = Tickwork(clock=clock)
>>> @tickwork.handler("greet")
... def greet(payload: dict) -> str:
...     return f"hello {payload['name']}"
>>> job = greet.enqueue({"name": "Ada"}, delay=3600)
>>> _ = drain(tickwork)
>>> tickwork.get(job.id).result
'hello Ada'

The behaviour suite for stores is in :mod:`jobs.testing.conformance`; that one needs pytest.
"""

from jobs.core.clock import ManualClock
from jobs.testing.drain import NotDrained, drain

__all__ = ["ManualClock", "NotDrained", "drain"]
