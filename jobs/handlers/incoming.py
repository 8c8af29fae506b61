"""Handlers for webhooks that come: one kind for each provider and event.

    @on_webhook("stripe", "payment_intent.succeeded", transactional=True)
    def paid(event: dict, ctx: JobContext) -> None: ...

    @on_webhook("shopify")                       # every event that has no handler of its own
    def shop(event: dict) -> None: ...

`event` is `{"platform", "eventType", "eventId", "payload", "signature"}`, and where the
application says whose it is (`webhook_owner`), `organizationId` and `integrationId`. The kinds are
`webhook:stripe:payment_intent.succeeded` and `webhook:shopify`; the URLs are in
`jobs/http/incoming.py`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

from jobs.core.errors import ConfigurationError
from jobs.core.names import NAME
from jobs.core.registry import Handler, Registry, handler
from jobs.handlers.providers import PROVIDERS

QUEUE: Final = "incoming-webhooks"
MAX_ATTEMPTS: Final = 5
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_.@+-]")


def on_webhook(
    provider: str, event: str | None = None, **options: Any
) -> Callable[[Callable[..., Any]], Handler]:
    """Declare the handler of a provider's event, or of all its events that have none.

    provider: stripe, shopify, razorpay, github or standard
    event: as the provider names it: `payment_intent.succeeded`, `orders/create`, `push`
    options: those of `@handler`; the queue is `incoming-webhooks` and attempts are five unless said
    Raises ConfigurationError for a provider that is not known, or an event that makes no kind.
    """
    if provider not in PROVIDERS:
        raise ConfigurationError(
            f"no provider of webhooks is called {provider!r}: there are {', '.join(PROVIDERS)}"
        )
    kind = kind_of(provider, event)
    if event is not None and not (event and NAME.fullmatch(kind)):
        raise ConfigurationError(f"the event {event!r:.120} is empty or too long for a kind's name")
    return handler(kind, **{"queue": QUEUE, "max_attempts": MAX_ATTEMPTS, **options})


def kind_of(provider: str, event: str | None = None) -> str:
    """The kind of an event's jobs.

    >>> kind_of("shopify", "orders/create")
    'webhook:shopify:orders.create'
    """
    if event is None:
        return f"webhook:{provider}"
    return f"webhook:{provider}:{_NOT_IN_NAMES.sub('.', event)}"


def handler_of(registry: Registry, provider: str, event: str) -> Handler | None:
    """The handler that takes an event here: its own, else the provider's."""
    own = registry.find(kind_of(provider, event)) if event else None
    return own or registry.find(kind_of(provider))


def has_handlers(registry: Registry, provider: str) -> bool:
    """Whether anything of a provider is handled here."""
    own = kind_of(provider)
    return any(kind == own or kind.startswith(f"{own}:") for kind in registry.kinds)
