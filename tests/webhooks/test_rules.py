"""The pure rules: signatures by published vectors, what answers mean, where webhooks may go."""

from __future__ import annotations

import datetime as dt
import hashlib
import hmac
import socket
import string
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.handlers.answers import LONGEST_WAIT_SECONDS, Meaning, meaning_of, retry_after
from jobs.handlers.errors import TargetRefused
from jobs.handlers.signing import is_one_of, sign_stamped, sign_standard
from jobs.handlers.targets import Allowed, check_addresses, check_target, is_public, read_target

NOTHING = Allowed()


def test_the_vector_of_standard_webhooks() -> None:
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    signed = sign_standard(
        secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}'
    )

    assert signed == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_the_stamped_scheme_is_hmac_over_timestamp_and_body() -> None:
    body = '{"event":"grüße"}'.encode()
    expected = hmac.new(b"webhook-secret", b"1700000000." + body, hashlib.sha256).hexdigest()

    assert sign_stamped("webhook-secret", 1700000000, body) == expected


def test_signatures_are_compared_as_bytes_whatever_a_header_holds() -> None:
    assert is_one_of(["nein", "ä\udcff"], ["a", "ä\udcff"])
    assert not is_one_of(["ä", ""], ["a"])
    assert not is_one_of([], ["a"])


@pytest.mark.parametrize(
    ("status", "meaning"),
    [
        *[(status, Meaning.DELIVERED) for status in (200, 201, 202, 204, 299)],
        *[(status, Meaning.LATER) for status in (301, 302, 307, 308, 408, 425, 429, 500, 503, 599)],
        *[(status, Meaning.REFUSED) for status in (400, 401, 403, 404, 422, 499)],
        (410, Meaning.GONE),
    ],
)
def test_what_a_status_means(status: int, meaning: Meaning) -> None:
    assert meaning_of(status) is meaning


NOW = dt.datetime(2026, 11, 26, 12, 0, tzinfo=dt.UTC)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("120", 120.0),
        (" 0 ", 0.0),
        ("999999999", LONGEST_WAIT_SECONDS),
        ("Thu, 26 Nov 2026 12:02:00 GMT", 120.0),
        ("Thu, 26 Nov 2026 11:00:00 GMT", 0.0),
        ("Fri, 27 Nov 2099 12:00:00 GMT", LONGEST_WAIT_SECONDS),
        ("Thu, 26 Nov 2026 12:02:00 -0000", 120.0),
        (None, None),
        ("", None),
        ("-5", None),
        ("soon", None),
        ("1e9", None),
        ("9" * 400, None),
        ("Thu, 99 Nov 2026 12:02:00 GMT", None),
        ("Thu, 26 Nov 99999999 12:02:00 GMT", None),
    ],
)
def test_retry_after(header: str | None, seconds: float | None) -> None:
    assert retry_after(header, NOW) == seconds


# -- where to ----------------------------------------------------------------------------------

PRIVATE = (
    *("127.0.0.1", "127.8.8.8", "0.0.0.1", "10.1.2.3", "172.16.0.1", "172.31.255.255"),
    *("192.168.1.1", "169.254.169.254", "100.64.0.1", "100.100.100.200", "192.0.0.192"),
    *("198.18.0.1", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255"),
    *("192.0.2.1", "198.51.100.1", "203.0.113.1", "192.88.99.1", "168.63.129.16"),
    *("::", "::1", "::ffff:127.0.0.1", "::ffff:8.8.8.8", "::127.0.0.1", "fe80::1", "fec0::1"),
    *("fc00::1", "fd00:ec2::254", "ff02::1", "2001::1", "2001:db8::1", "2002:7f00:1::", "3fff::1"),
    *("2002:808:808::", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "100::1"),
    "5f00::1",
)
PUBLIC = ("8.8.8.8", "1.1.1.1", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "64:ff9b::808:808")


@pytest.mark.parametrize("address", PRIVATE)
def test_an_address_that_is_not_public(address: str) -> None:
    assert not is_public(ip_address(address))
    host = f"[{address}]" if ":" in address else address
    with pytest.raises(TargetRefused):
        check_target(read_target(f"https://{host}/hook"), NOTHING)


@pytest.mark.parametrize("address", PUBLIC)
def test_an_address_that_is_public(address: str) -> None:
    assert is_public(ip_address(address))


@given(st.ip_addresses())
def test_nothing_is_public_that_python_knows_to_be_private(address: object) -> None:
    found = ip_address(str(address))
    if found.is_private or found.is_loopback or found.is_link_local or found.is_multicast:
        assert not is_public(found) or str(found).startswith("64:ff9b:")


@pytest.mark.parametrize(
    "url",
    [
        *("http://example.com/", "ftp://example.com/", "file:///etc/passwd", "gopher://x.example/"),
        *("//example.com", "example.com", "https://", "https:///path", "", "https://:443/"),
        *("https://user:pw@example.com/", "https://a@127.0.0.1/", "https://@example.com/"),
        *("https://2130706433/", "https://0x7f.1/", "https://0177.0.0.1/", "https://127.1/"),
        *("https://0x7f000001/", "https://1.2.3/", "https://example.0x1/", "https://127.0.0.1./"),
        *("https://[::1", "https://[::1%25lo]/", "https://[fe80::1%25eth0]/", "https://[1.2.3.4]/"),
        *("https://localhost/", "https://localhost./", "https://LOCALHOST/", "https://db/"),
        *("https://x.localhost/", "https://metadata.google.internal/", "https://nas.local/"),
        *("https://exa mple.com/", "https://example.com/\r\nX: y", "https://ex\tample.com/"),
        *("https://example.com\\@127.0.0.1/", "https://①②⑦.0.0.1/", "https://bücher.example/"),
        *("https://%31%32%37.0.0.1/", "https://exa%00mple.com/", "https://example.com:22/"),
        *("https://example.com:99999/", "https://example.com:x/", "https://example.com:0/"),
        "https://example.com/" + "a" * 2000,
    ],
)
def test_a_url_that_is_refused_before_anything_is_resolved(url: str) -> None:
    with pytest.raises(TargetRefused) as refused:
        check_target(read_target(url), NOTHING)
    assert "pw" not in str(refused.value)


@pytest.mark.parametrize("url", [None, 7, ["https://example.com"], b"https://example.com/"])
def test_what_is_no_text_is_no_url(url: object) -> None:
    with pytest.raises(TargetRefused):
        read_target(url)


def test_a_url_is_taken_apart_once() -> None:
    target = read_target("https://Hooks.Example.com:8443/in?a=1&b#piece")

    assert (target.host, target.port, target.path) == ("hooks.example.com", 8443, "/in?a=1&b")
    assert target.host_header == "hooks.example.com:8443"
    assert read_target("https://example.com").path == "/"
    assert read_target("https://[2606:4700::1111]/").host_header == "[2606:4700::1111]"
    check_target(target, NOTHING)


@given(st.text(alphabet=string.digits + "xabcdef.", min_size=1, max_size=20))
def test_no_spelling_of_a_number_gets_past_as_a_name(host: str) -> None:
    """What the system takes for an address without asking anybody is seen as one, or refused."""
    try:
        meant = socket.inet_aton(host)
    except OSError:
        return
    try:
        target = read_target(f"https://{host}/")
    except TargetRefused:
        return
    assert target.address is not None
    assert target.address.packed == meant


def test_all_addresses_of_a_name_must_be_public() -> None:
    target = read_target("https://hooks.example.com/")
    check_addresses(target, [ip_address("8.8.8.8")], NOTHING)
    with pytest.raises(
        TargetRefused, match="not public; if that is meant, list it in JOBS_WEBHOOK"
    ):
        check_addresses(target, [ip_address("8.8.8.8"), ip_address("10.0.0.1")], NOTHING)


def test_what_the_list_allows() -> None:
    allowed = Allowed.of(["Receiver.internal", "10.1.0.0/16", "fd12::/64", "::1"])
    for url in ("http://receiver.internal:80/", "https://10.1.2.3:22/", "http://[::1]:8080/"):
        check_target(read_target(url), allowed)
    check_addresses(read_target("http://some.name/"), [ip_address("10.1.9.9")], allowed)
    for url in ("https://10.2.0.1/", "http://8.8.8.8/"):
        with pytest.raises(TargetRefused):
            check_target(read_target(url), allowed)
    with pytest.raises(TargetRefused, match="https"):
        check_addresses(read_target("http://some.name/"), [ip_address("8.8.8.8")], allowed)


def test_metadata_of_platforms_is_closed_whatever_the_list_says() -> None:
    allowed = Allowed.of(["0.0.0.0/0", "::/0", "evil.example"])
    for address in ("169.254.169.254", "fd00:ec2::254", "168.63.129.16", "64:ff9b::a9fe:a9fe"):
        with pytest.raises(TargetRefused, match="metadata"):
            check_addresses(read_target("https://evil.example/"), [ip_address(address)], allowed)
