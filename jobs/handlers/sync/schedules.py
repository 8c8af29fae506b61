"""A schedule for each integration, by its platform and its customer's plan.

install_sync_schedules(tickwork, [
    SyncSchedule("int-1", "org1", "shopify", tier="enterprise"),     # every hour
    SyncSchedule("int-2", "org2", "facebook-ads"),                   # every day
])
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from jobs.core.errors import ConfigurationError

if TYPE_CHECKING:
    from jobs.core.schedule import Schedule

KIND: Final = "data-sync"
_HOUR_SECONDS: Final = 3600.0

HOURS: Final[Mapping[str, float]] = MappingProxyType(
    {"shopify": 2, "woocommerce": 2, "stripe": 3, "google-analytics": 4, "facebook-ads": 24}
)
"""Every how many hours a platform is synced on the plan `professional`: forerunners' numbers."""

TIERS: Final[Mapping[str, float]] = MappingProxyType(
    {"free": 4, "starter": 2, "professional": 1, "enterprise": 0.5}
)
"""What a plan makes of those hours."""


@dataclass(frozen=True)
class SyncSchedule:
    """An integration to be synced now and again; `tier` is its customer's plan."""

    integration_id: str
    organization_id: str
    platform: str
    tier: str = "professional"

    @property
    def name(self) -> str:
        """What the schedule is called; its tenant is the organisation."""
        return f"{KIND}:{self.integration_id}"


def install_sync_schedules(
    tickwork: Any,
    integrations: Iterable[SyncSchedule],
    *,
    hours: Mapping[str, float] = HOURS,
    tiers: Mapping[str, float] = TIERS,
) -> list[Schedule]:
    """Make a schedule for each integration, or change the one that it has; again changes nothing.

    tickwork: the system
    hours: every how many hours, by platform
    tiers: factors of those hours, by plan
    Returns the schedules. Jobs come up to a tenth of the interval later than their slot (five
    minutes at most), so that integrations do not all begin at once.
    Raises ConfigurationError for a platform or a plan that is in neither; then nothing is made.
    """
    wanted = [(each, _every_seconds(each, hours, tiers)) for each in integrations]
    return [
        tickwork.schedules.add(
            each.name,
            None,
            KIND,
            {
                "integrationId": each.integration_id,
                "organizationId": each.organization_id,
                "platform": each.platform,
                "syncType": "incremental",
            },
            every=every,
            jitter=min(300.0, every / 10),
            tenant=each.organization_id,
        )
        for each, every in wanted
    ]


def remove_sync_schedule(tickwork: Any, integration_id: str, organization_id: str) -> None:
    """Take an integration's schedule away, as when it is disconnected.

    Raises ScheduleNotFound where there is none.
    """
    tickwork.schedules.remove(f"{KIND}:{integration_id}", organization_id)


def _every_seconds(
    integration: SyncSchedule, hours: Mapping[str, float], tiers: Mapping[str, float]
) -> float:
    for what, name, known in (
        ("platform", integration.platform, hours),
        ("plan", integration.tier, tiers),
    ):
        if name not in known:
            raise ConfigurationError(
                f"no {what} {name!r} to schedule {integration.integration_id} by (there are: "
                f"{', '.join(known)}); say it with hours= or tiers="
            )
    return hours[integration.platform] * tiers[integration.tier] * _HOUR_SECONDS
