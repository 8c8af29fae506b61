"""Webhooks that come: ``POST /webhooks/<provider>``, each closed until its secret is set.

A request is checked (the signature over the bytes as they came), enqueued and answered
``{"received": true}``; the work is the job's. Who sent it goes by the answer:

* 200 it is a job, or was one before (the event's id is the job's dedupe key), or nobody here wants
  events of that type
* 401 the signature is wrong, 400 it is no JSON, 413 it is too large, 404 no secret is set
* 503 it could not be enqueued: the provider sends it again
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from flask import Flask, request
from flask.typing import ResponseReturnValue

from jobs.core.codec import clean_result
from jobs.core.errors import PayloadTooLarge
from jobs.http.auth import usable_secrets
from jobs.http.problems import RETRY_AFTER_SECONDS, problem
from jobs.system import Tickwork

if TYPE_CHECKING:
    from jobs.handlers.providers import Arrived, Provider

log = logging.getLogger("tickwork.http")
PATH = "/webhooks/<provider>"
# Providers try for up to three days, and people send again by hand within a week.
DEDUPE_WINDOW_SECONDS = 7 * 86_400.0
RECEIVED = {"received": True}


def install(app: Flask, tickwork: Tickwork) -> None:
    """Serve ``/webhooks/<provider>``; what knows the providers is loaded with the first request."""
    app.add_url_rule(
        PATH,
        "tickwork.incoming",
        Incoming(tickwork),
        methods=["POST"],
        provide_automatic_options=False,
    )


class Incoming:
    """The view."""

    __name__ = "incoming"

    def __init__(self, tickwork: Tickwork) -> None:
        self._tickwork = tickwork
        self._secrets: dict[str, list[str]] = {}

    def __call__(self, provider: str) -> ResponseReturnValue:
        from jobs.handlers.providers import PROVIDERS, Arrived  # late: a tick has no use for them

        known = PROVIDERS.get(provider)
        secrets = self._secrets_of(known) if known is not None else ()
        if known is None or not secrets:
            return problem(HTTPStatus.NOT_FOUND, "No webhooks are received here.")
        headers = {name.lower(): value for name, value in request.headers.items()}
        at = self._tickwork.clock.now().timestamp()
        return self._received(known, secrets, Arrived(headers, request.get_data(), at))

    def _secrets_of(self, provider: Provider) -> Sequence[str]:
        if provider.name not in self._secrets:
            given = getattr(self._tickwork.settings, provider.setting)
            named = {f"{provider.variable} ({place})": each for place, each in enumerate(given, 1)}
            self._secrets[provider.name] = [
                secret.decode("utf-8", "surrogateescape") for secret in usable_secrets(named)
            ]
        return self._secrets[provider.name]

    def _received(
        self, provider: Provider, secrets: Sequence[str], arrived: Arrived
    ) -> ResponseReturnValue:
        from jobs.handlers.errors import SignatureRefused

        try:
            signature = provider.verify(arrived, secrets)
        except SignatureRefused as error:
            log.warning("a webhook of %s was refused: %s", provider.name, error)
            return problem(HTTPStatus.UNAUTHORIZED, f"This webhook is refused: {error}.")
        try:
            document = json.loads(arrived.body, parse_constant=_refuse)
        except (ValueError, RecursionError):
            log.warning(
                "a webhook of %s is no JSON; is its content type set to that?", provider.name
            )
            return problem(HTTPStatus.BAD_REQUEST, "The body is not JSON.")
        try:
            return self._enqueued(provider, arrived, document, signature)
        except PayloadTooLarge as error:
            log.error(
                "a webhook of %s is lost: %s; or raise JOBS_PAYLOAD_MAX_BYTES", provider.name, error
            )
            return problem(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "The event is too large to be kept."
            )
        except Exception:
            # Whatever it was, the provider is to send it again.
            log.exception("a webhook of %s could not be enqueued", provider.name)
            return problem(
                HTTPStatus.SERVICE_UNAVAILABLE,
                "The event could not be kept; send it again.",
                headers={"Retry-After": str(RETRY_AFTER_SECONDS)},
            )

    def _enqueued(
        self, provider: Provider, arrived: Arrived, document: Any, signature: str
    ) -> ResponseReturnValue:
        from jobs.handlers.incoming import handler_of, has_handlers
        from jobs.handlers.providers import key_of_event

        event_type = provider.event_type(arrived, document)
        key = key_of_event(provider, arrived, document)
        handler = handler_of(self._tickwork.registry, provider.name, event_type)
        if handler is None:
            if has_handlers(self._tickwork.registry, provider.name):
                log.info("%s sent %.100r, which nobody here handles", provider.name, event_type)
                return RECEIVED
            log.error(
                "%s sends webhooks, and nothing here handles them: declare @on_webhook(%r) in a "
                "module of JOBS_HANDLERS",
                *(provider.name, provider.name),
            )
            return problem(
                HTTPStatus.SERVICE_UNAVAILABLE,
                "Nothing here handles these events yet.",
                headers={"Retry-After": str(RETRY_AFTER_SECONDS)},
            )
        # What no database stores, as NUL in somebody's note, must not keep an order from coming in.
        event = clean_result(
            {
                "platform": provider.name,
                "eventType": event_type,
                "eventId": key,
                "payload": document,
                "signature": signature,
                **self._owner(provider.name, document),
            }
        )
        assert isinstance(event, dict)
        self._tickwork.enqueue(
            handler.kind,
            event,
            dedupe_key=key,
            dedupe_window=DEDUPE_WINDOW_SECONDS,
            tenant=event.get("organizationId") or "",
        )
        return RECEIVED

    def _owner(self, platform: str, document: Any) -> dict[str, str]:
        """Whose an event is, by the application's ``webhook_owner(platform, payload)``."""
        for module in self._tickwork.modules:
            owner = getattr(module, "webhook_owner", None)
            if owner is not None:
                said = owner(platform, document) or {}
                return {name: said[name] for name in _OWNERS if said.get(name)}
        return {}


_OWNERS = ("organizationId", "integrationId")


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")
