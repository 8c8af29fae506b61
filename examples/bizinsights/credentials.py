"""Customers' credentials: encrypted in their rows with JOBS_ENCRYPTION_KEYS, opened when sent."""

from __future__ import annotations

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from jobs import ConfigurationError, Tickwork
from jobs.handlers.sync import PlatformRefused


def seal(credentials: str, tickwork: Tickwork) -> str:
    """Return them as a row may hold them. Raises ConfigurationError where no key is set."""
    return _keys(tickwork).encrypt(credentials.encode()).decode()


def unseal(sealed: str, tickwork: Tickwork) -> str:
    """Return them in clear. Raises PlatformRefused where no key opens them."""
    try:
        return _keys(tickwork).decrypt(sealed.encode()).decode()
    except InvalidToken:
        raise PlatformRefused("no key of JOBS_ENCRYPTION_KEYS opens the credentials") from None


def _keys(tickwork: Tickwork) -> MultiFernet:
    keys = tickwork.settings.encryption_keys
    if not keys:
        raise ConfigurationError("customers' credentials are kept encrypted: JOBS_ENCRYPTION_KEYS")
    return MultiFernet([Fernet(key) for key in keys])
