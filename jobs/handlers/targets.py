"""Where a webhook may be sent: rules for URLs, names and addresses. Pure; `dialing.py` asks them.

Whoever may say where a webhook goes must not reach what only this machine reaches: itself, its
network, the metadata of its platform. So a URL is https, names no credentials, and its host leads
to public addresses only. `JOBS_WEBHOOK_ALLOW` lists what may be reached all the same, private, by
plain http and on any port:

    receiver.internal         that name
    10.1.0.0/16, 127.0.0.1    those addresses, by whatever name
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final
from urllib.parse import urlsplit

from jobs.handlers.errors import TargetRefused

Address = IPv4Address | IPv6Address
MOST_URL_CHARS: Final = 2_000
_PORTS: Final = {"https": 443, "http": 80}
_LOWEST_PORT: Final = 1024
# Those of the IANA special-purpose registries that are not globally reachable, written out: what
# Python's `is_global` says of some differs from version to version.
_CLOSED_4: Final = tuple(
    map(
        IPv4Network,
        (
            *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16"),
            *("172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24"),
            *("192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24"),
            *("224.0.0.0/4", "240.0.0.0/4"),
        ),
    )
)
_GLOBAL_6: Final = IPv6Network("2000::/3")
# 2001::/23 holds Teredo, 2002::/16 is 6to4: both carry an IPv4 address past the rules for those.
_CLOSED_6: Final = tuple(map(IPv6Network, ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")))
# What networks with IPv6 alone reach IPv4 by (RFC 6052).
_NAT64: Final = IPv6Network("64:ff9b::/96")
# Metadata and the like of platforms: closed whatever the list says.
_PLATFORMS: Final = frozenset(
    map(
        ip_address,
        (
            *("169.254.169.254", "169.254.170.2", "169.254.170.23", "fd00:ec2::254"),
            *("100.100.100.200", "192.0.0.192", "168.63.129.16"),
        ),
    )
)
_NAME = re.compile(
    r"(?=.{1,253}\.?$)(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9-]{1,63}\.?"
)
_NUMBER = re.compile(r"(?:0x[0-9a-f]*|[0-9]+)")
_LOCAL_ENDINGS: Final = (
    *(".localhost", ".local", ".internal", ".localdomain", ".home.arpa", ".lan"),
)
_MEND: Final = "; if that is meant, list it in JOBS_WEBHOOK_ALLOW"


@dataclass(frozen=True, slots=True)
class Allowed:
    """What the operator lets webhooks reach although it is private."""

    names: frozenset[str] = frozenset()
    networks: tuple[IPv4Network | IPv6Network, ...] = ()

    @classmethod
    def of(cls, entries: Iterable[str]) -> Allowed:
        """From the setting's entries; what is no address or network is a name."""
        names: set[str] = set()
        networks: list[IPv4Network | IPv6Network] = []
        for entry in entries:
            try:
                networks.append(ip_network(entry.strip("[]"), strict=False))
            except ValueError:
                names.add(entry.lower().rstrip("."))
        return cls(frozenset(names), tuple(networks))

    def has_name(self, host: str) -> bool:
        return host.rstrip(".") in self.names

    def has_address(self, address: Address) -> bool:
        return any(address in network for network in self.networks)


@dataclass(frozen=True, slots=True)
class Target:
    """A URL, taken apart once: what is checked is what is dialled.

    host: a lower-case name, or an address without brackets
    path: with the query, as it goes into the request line
    """

    scheme: str
    host: str
    port: int
    path: str

    @property
    def address(self) -> Address | None:
        """The address that the host is, if it is one."""
        try:
            return ip_address(self.host)
        except ValueError:
            return None

    @property
    def host_header(self) -> str:
        """The `Host` of the request."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"


def read_target(url: object) -> Target:
    """Take a URL apart. Raises TargetRefused, whatever may be allowed, for what is no plain
    http(s) URL: credentials, other characters than ASCII's, a number where a name belongs."""
    if not isinstance(url, str) or not re.fullmatch(r"[!-~]+", url) or "\\" in url:
        raise TargetRefused(
            "the URL may hold visible ASCII only: write a name in another script as xn--..., other "
            "characters as %XX"
        )
    if len(url) > MOST_URL_CHARS:
        raise TargetRefused(f"the URL is longer than {MOST_URL_CHARS:,} characters")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise TargetRefused("the URL cannot be read; is its host or port mistyped?") from None
    scheme, host = parts.scheme, (parts.hostname or "").lower()
    if scheme not in _PORTS or not host:
        raise TargetRefused("the URL is not of the form https://host/path")
    if "@" in parts.netloc:
        raise TargetRefused("the URL holds credentials: a webhook proves itself by its signature")
    if "%" in host or (":" not in host and not _NAME.fullmatch(host)):
        raise TargetRefused("the URL's host is neither a name nor an address")
    target = Target(
        scheme,
        host,
        _PORTS[scheme] if port is None else port,
        (parts.path or "/") + (f"?{parts.query}" if parts.query else ""),
    )
    # 2130706433, 0x7f.1 and 0177.0.0.1 are 127.0.0.1 to what resolves names.
    if target.address is None and (":" in host or _ends_in_number(host)):
        raise TargetRefused(
            "the URL's host is a number; write an address as 192.0.2.1 or [2001:db8::1]"
        )
    return target


def check_target(target: Target, allowed: Allowed) -> None:
    """What can be said before anything is resolved. Raises TargetRefused."""
    if allowed.has_name(target.host):
        return
    address = target.address
    if address is not None:
        check_addresses(target, [address], allowed)
        return
    if allowed.networks:
        return  # by its addresses, once they are known
    _check_manner(target)
    name = target.host.rstrip(".")
    if "." not in name or name.endswith(_LOCAL_ENDINGS):
        raise TargetRefused(f"{name} is a name of a private network{_MEND}")


def check_addresses(target: Target, addresses: Iterable[Address], allowed: Allowed) -> None:
    """Whether all addresses that the host leads to may be dialled. Raises TargetRefused.

    All, and not the first that may: a name that leads to both is made for getting past this.
    """
    by_name = allowed.has_name(target.host)
    for address in addresses:
        if _meant(address) in _PLATFORMS:
            raise TargetRefused(f"{target.host} leads to the metadata of a platform")
        if by_name or allowed.has_address(address):
            continue
        if not is_public(address):
            raise TargetRefused(f"{target.host} leads to an address that is not public{_MEND}")
        _check_manner(target)


def is_public(address: Address) -> bool:
    """Whether an address is one of the public Internet, by IANA's special-purpose registries."""
    meant = _meant(address)
    if isinstance(meant, IPv4Address):
        return meant not in _PLATFORMS and not any(meant in closed for closed in _CLOSED_4)
    # IPv4-mapped addresses lie outside of 2000::/3, as all do that are not handed out.
    return meant in _GLOBAL_6 and not any(meant in closed for closed in _CLOSED_6)


def _check_manner(target: Target) -> None:
    if target.scheme != "https":
        raise TargetRefused(
            "a webhook goes by https; for plain http, list the host in JOBS_WEBHOOK_ALLOW"
        )
    if target.port != _PORTS["https"] and target.port < _LOWEST_PORT:
        raise TargetRefused(
            f"port {target.port} is of another service; use 443, or {_LOWEST_PORT} and above{_MEND}"
        )


def _meant(address: Address) -> Address:
    """Behind NAT64, the IPv4 address that is reached."""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            # Closed by `is_public` all the same: a socket would dial the IPv4 address.
            return address if address.ipv4_mapped not in _PLATFORMS else address.ipv4_mapped
        if address in _NAT64:
            return IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def _ends_in_number(host: str) -> bool:
    """As the WHATWG URL standard has it: such a host is an address, or none at all."""
    return _NUMBER.fullmatch(host.rstrip(".").rpartition(".")[2]) is not None
