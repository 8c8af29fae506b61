"""The behaviour suite: what every store, and every system on it, must do.

Bring one fixture, ``make_store``, and inherit both classes:

    import pytest
    from jobs.testing.conformance import RuntimeConformance, StoreConformance

    class TestMyStore(StoreConformance, RuntimeConformance):
        @pytest.fixture
        def make_store(self, tmp_path):
            def make(clock, namespace=""):
                return MyStore(tmp_path / "rows", clock=clock, namespace=namespace)
            return make

The first store that a test makes must find no rows; a further one opens the same rows again. What a
store cannot do it leaves out of its ``capabilities``, and the tests that need it are skipped.
"""

from __future__ import annotations

from jobs.testing.areas.access import AuditConformance, TokenConformance
from jobs.testing.areas.alerts import AlertRowsConformance, AlertsConformance
from jobs.testing.areas.base import MakeStore, MakeTickwork, requires
from jobs.testing.areas.discard import DiscardConformance, DiscardJobConformance
from jobs.testing.areas.glance import GlanceConformance
from jobs.testing.areas.limits import (
    BreakerConformance,
    FairnessConformance,
    LimitConformance,
    LimitedRunnersConformance,
)
from jobs.testing.areas.measures import (
    DepthConformance,
    MeasureConformance,
    RecordConformance,
    TickRecordConformance,
)
from jobs.testing.areas.runtime_controls import (
    CancelManyConformance,
    CleaningConformance,
    PauseConformance,
    RetryConformance,
    SettingsConformance,
)
from jobs.testing.areas.runtime_drain import DrainConformance
from jobs.testing.areas.runtime_ends import KeepingConformance, StoppingConformance
from jobs.testing.areas.runtime_faults import FaultConformance
from jobs.testing.areas.runtime_groups import ChainConformance, GroupLifeConformance
from jobs.testing.areas.runtime_life import LifeConformance, ManyRunnersConformance
from jobs.testing.areas.runtime_long import ContinueConformance, VersionConformance
from jobs.testing.areas.runtime_lost import LostRunnerConformance
from jobs.testing.areas.runtime_payloads import PayloadConformance
from jobs.testing.areas.runtime_sessions import (
    NoSessionConformance,
    SessionConformance,
)
from jobs.testing.areas.runtime_time import (
    BudgetConformance,
    ExpiryConformance,
    TimeoutConformance,
)
from jobs.testing.areas.schedules import ScheduleConformance, ScheduleStoreConformance
from jobs.testing.areas.store_browse import BrowseConformance
from jobs.testing.areas.store_chains import NextDueConformance, TickChainConformance
from jobs.testing.areas.store_claims import ClaimConformance
from jobs.testing.areas.store_controls import (
    PausedRowsConformance,
    RemovalConformance,
    RevivalConformance,
    SettingRowsConformance,
)
from jobs.testing.areas.store_ends import CancelConformance, RetentionConformance
from jobs.testing.areas.store_groups import (
    CursorConformance,
    FollowConformance,
    GroupConformance,
)
from jobs.testing.areas.store_rings import OverdueConformance, RingConformance
from jobs.testing.areas.store_rows import InsertConformance
from jobs.testing.areas.store_settles import (
    SettleConformance,
    StalledConformance,
    StandingConformance,
    TouchConformance,
)
from jobs.testing.areas.store_transactions import TransactionConformance
from jobs.testing.areas.unique import (
    AliasConformance,
    DedupeConformance,
    KeyUpkeepConformance,
    ManyKeysConformance,
    ReplaceConformance,
    UniqueEnqueueConformance,
    UniqueSessionConformance,
)
from jobs.testing.areas.why import AheadConformance, WhyConformance

__all__ = ["MakeStore", "MakeTickwork", "RuntimeConformance", "StoreConformance", "requires"]


class StoreConformance(
    InsertConformance,
    ClaimConformance,
    SettleConformance,
    TouchConformance,
    StalledConformance,
    StandingConformance,
    CancelConformance,
    RetentionConformance,
    TickChainConformance,
    NextDueConformance,
    RingConformance,
    OverdueConformance,
    ScheduleStoreConformance,
    LimitConformance,
    FairnessConformance,
    BreakerConformance,
    TransactionConformance,
    FollowConformance,
    CursorConformance,
    GroupConformance,
    DedupeConformance,
    ManyKeysConformance,
    AliasConformance,
    ReplaceConformance,
    KeyUpkeepConformance,
    PausedRowsConformance,
    SettingRowsConformance,
    RemovalConformance,
    RevivalConformance,
    DiscardConformance,
    AheadConformance,
    TokenConformance,
    AuditConformance,
    BrowseConformance,
    RecordConformance,
    MeasureConformance,
    DepthConformance,
    AlertRowsConformance,
    GlanceConformance,
):
    """The store contract (``jobs.core.store.Store``), operation by operation."""


class RuntimeConformance(
    LifeConformance,
    ManyRunnersConformance,
    DrainConformance,
    FaultConformance,
    TimeoutConformance,
    BudgetConformance,
    ExpiryConformance,
    LostRunnerConformance,
    StoppingConformance,
    KeepingConformance,
    PayloadConformance,
    SessionConformance,
    NoSessionConformance,
    ContinueConformance,
    VersionConformance,
    ChainConformance,
    GroupLifeConformance,
    ScheduleConformance,
    PauseConformance,
    SettingsConformance,
    CleaningConformance,
    RetryConformance,
    DiscardJobConformance,
    CancelManyConformance,
    UniqueEnqueueConformance,
    UniqueSessionConformance,
    LimitedRunnersConformance,
    WhyConformance,
    TickRecordConformance,
    AlertsConformance,
):
    """A job's whole life on that store, driven by ``Tickwork.tick``."""
