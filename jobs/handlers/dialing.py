"""Posts to a target that somebody else named: the address that was checked is the one dialled.

    answer = post(read_target(url), body, headers, allowed=Allowed(), seconds=20)

The name is resolved once, every address it leads to is checked (`targets.py`), and the connection
goes to one of them; TLS and the `Host` header have the name. A name that resolves to something else
a moment later changes nothing. No proxy is asked, no redirect is followed.

Everything ends: connecting, TLS, sending and the answer's head together in `seconds`. Of the
answer's body the first kilobyte is read, for at most `BODY_SECONDS` more: it is told to people and
decides nothing, so one that is slow or never ends costs no delivery.
"""

from __future__ import annotations

import http.client
import queue
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import ip_address
from typing import Final

from jobs.handlers.errors import DeliveryFailed
from jobs.handlers.targets import Address, Allowed, Target, check_addresses, check_target

CONNECT_SECONDS: Final = 5.0
BODY_SECONDS: Final = 2.0
EXCERPT_BYTES: Final = 1_000
# Of the addresses of a name, so many are tried.
_MOST_ADDRESSES: Final = 4


@dataclass(frozen=True, slots=True)
class Answer:
    """What a receiver answered. `excerpt` is the beginning of the body, as text."""

    status: int
    retry_after: str | None
    excerpt: str


def post(
    target: Target, body: bytes, headers: Mapping[str, str], *, allowed: Allowed, seconds: float
) -> Answer:
    """Post `body` and return what is answered, whatever its status.

    target: where to
    headers: beside `Host` and `Content-Length`
    allowed: what may be reached although it is not public
    seconds: until the answer's head must be there
    Raises TargetRefused before anything is sent there, DeliveryFailed when no answer came.
    """
    check_target(target, allowed)
    ends_at = time.monotonic() + seconds
    addresses = resolve(target, seconds)
    check_addresses(target, addresses, allowed)
    line = _connected(target, addresses, ends_at)
    handle = line.dup()  # to cut the line by, since TLS takes the socket itself over
    try:
        line.settimeout(seconds)
        with _cut_off_at(handle, ends_at):
            if target.scheme == "https":
                line = _tls().wrap_socket(line, server_hostname=target.host.rstrip("."))
            answer = _asked(line, target, body, headers)
        if time.monotonic() >= ends_at:  # a head that was cut off is read as if it ended there
            answer.close()
            raise TimeoutError
        with answer, _cut_off_at(handle, time.monotonic() + BODY_SECONDS):
            return Answer(answer.status, answer.getheader("Retry-After"), _beginning(answer))
    except ssl.SSLCertVerificationError as error:
        raise DeliveryFailed(
            f"{target.host} has no certificate that holds: {error.verify_message}"
        ) from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        why = "in time" if time.monotonic() >= ends_at else f"({type(error).__name__})"
        raise DeliveryFailed(f"{target.host} did not answer {why}") from None
    finally:
        handle.close()
        line.close()


def resolve(target: Target, seconds: float) -> list[Address]:
    """The addresses that the host leads to, asked for once.

    Raises DeliveryFailed when there are none, or no answer within `seconds`. The resolver of the
    system cannot be told to hurry, so it is asked in a thread that is left behind if it does not.
    """
    if target.address is not None:
        return [target.address]
    said: queue.SimpleQueue[list[str]] = queue.SimpleQueue()

    def ask() -> None:
        try:
            found = socket.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
            said.put([str(entry[4][0]).partition("%")[0] for entry in found])
        except (OSError, UnicodeError):
            said.put([])

    threading.Thread(target=ask, name="tickwork-resolve", daemon=True).start()
    try:
        texts = said.get(timeout=max(seconds, 0.0))
    except queue.Empty:
        raise DeliveryFailed(f"the name {target.host} was not resolved in time") from None
    if not texts:
        raise DeliveryFailed(f"the name {target.host} cannot be resolved")
    return [ip_address(text) for text in dict.fromkeys(texts)]


def _connected(target: Target, addresses: list[Address], ends_at: float) -> socket.socket:
    trouble = "in time"
    for address in addresses[:_MOST_ADDRESSES]:
        left = ends_at - time.monotonic()
        if left <= 0:
            break
        try:
            return _dialled(address, target.port, min(CONNECT_SECONDS, left))
        except OSError as error:
            trouble = f"({type(error).__name__})"
    raise DeliveryFailed(f"{target.host} cannot be reached {trouble}")


def _dialled(address: Address, port: int, seconds: float) -> socket.socket:
    # Not `create_connection`: that would ask the resolver once more.
    line = socket.socket(socket.AF_INET if address.version == 4 else socket.AF_INET6)
    try:
        line.settimeout(seconds)
        line.connect((str(address), port))
    except BaseException:
        line.close()
        raise
    return line


@contextmanager
def _cut_off_at(handle: socket.socket, ends_at: float) -> Iterator[None]:
    """Shut the line at that instant: a socket's own timeout begins anew with every byte."""

    def cut() -> None:
        with suppress(OSError):
            handle.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(max(ends_at - time.monotonic(), 0.0), cut)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _asked(
    line: socket.socket, target: Target, body: bytes, headers: Mapping[str, str]
) -> http.client.HTTPResponse:
    talk = http.client.HTTPConnection(target.host, target.port)
    talk.sock = line
    talk.request("POST", target.path, body, {"Host": target.host_header, **headers})
    return talk.getresponse()


def _beginning(answer: http.client.HTTPResponse) -> str:
    read = b""
    with suppress(OSError, http.client.HTTPException, ValueError):
        while len(read) < EXCERPT_BYTES and (more := answer.read1(EXCERPT_BYTES - len(read))):
            read += more
    return read.decode("utf-8", "replace")


@lru_cache(maxsize=1)
def _tls() -> ssl.SSLContext:
    return ssl.create_default_context()
