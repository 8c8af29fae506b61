"""What may be called what."""

from __future__ import annotations

from typing import Any

import pytest

from jobs.core.errors import ConfigurationError
from jobs.core.names import RESERVED_QUEUES, check_kind, check_queue, check_tenant
from tests.support.ids import case_id

GOOD = [
    "a",
    "A",
    "0",
    "_",
    "export-orders",
    "shop.tasks:export@2+x",
    "x" * 100,
    "v1.2.3",
    "process_",
]
BAD = [
    "",
    " ",
    "a b",
    "-a",
    ".a",
    ":a",
    "a/b",
    "a\\b",
    "a?b",
    "a#b",
    "a%2Fb",
    "é",
    "日本",
    "a\n",
    "\na",
    "a\x00",
    "a\ud800",
    "x" * 101,
    "<b>",
    "a'b",
    'a"b',
    "a;b",
    "a,b",
    "a*",
    None,
    5,
    b"a",
    ["a"],
    {"a"},
    object(),
]


@pytest.mark.parametrize("name", GOOD, ids=lambda name: name[:20])
@pytest.mark.parametrize("check", [check_kind, check_queue])
def test_a_name(check: Any, name: str) -> None:
    assert check(name) == name


@pytest.mark.parametrize("name", BAD, ids=case_id)
@pytest.mark.parametrize(("check", "noun"), [(check_kind, "kind"), (check_queue, "queue")])
def test_no_name(check: Any, noun: str, name: object) -> None:
    with pytest.raises(ConfigurationError, match=rf"^{noun} "):
        check(name)


def test_words_of_the_rest_paths_are_no_queues() -> None:
    assert sorted(RESERVED_QUEUES) == ["all", "dashboard", "monitoring", "process", "stats"]
    for word in RESERVED_QUEUES:
        with pytest.raises(ConfigurationError, match="reserved"):
            check_queue(word)
        assert check_kind(word) == word


@pytest.mark.parametrize("tenant", ["", "org1", "Ünïted Org 日本 🚀", "x" * 100])
def test_a_tenant(tenant: str) -> None:
    assert check_tenant(tenant) == tenant


@pytest.mark.parametrize(
    "tenant",
    ["x" * 101, "a\nb", "a\x00", "\ud800", "a\u202eb", "a ", " a", " ", None, 5, b"x", ["x"]],
    ids=ascii,
)
def test_no_tenant(tenant: object) -> None:
    with pytest.raises(ConfigurationError, match=r"^tenant "):
        check_tenant(tenant)
