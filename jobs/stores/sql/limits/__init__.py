"""Claims with limits, and in turns over the tenants: quotas from what runs, then the usual taking.

What runs is counted from the rows themselves, so that no crash can leak a place. A row in
``limits`` is only something to lock: claims that share a limit go one after the other, each seeing
what the one before has committed. Queues and kinds are waited for; a key that another claim is
looking at is left to it.
"""

from jobs.stores.sql.limits.turns import Turns
from jobs.stores.sql.limits.wanted import Wanted

__all__ = ["Turns", "Wanted"]
