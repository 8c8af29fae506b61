"""Text for people."""

from __future__ import annotations

import doctest

import pytest

from jobs.cli import text
from jobs.cli.text import first_line, mask, safe, span


def test_the_examples_hold() -> None:
    assert doctest.testmod(text).attempted > 1
    assert doctest.testmod(text).failed == 0


@pytest.mark.parametrize(
    "plain",
    ["", "hello", "Zoë 李 नेहा", "می‌خواهم", "👩‍💻", "two\nlines"],
)
def test_text_in_any_script_stays_as_it_is(plain: str) -> None:
    assert safe(plain) == plain


@pytest.mark.parametrize(
    ("hidden", "written_out"),
    [
        ("\x1b[31m", "\\x1b[31m"),
        ("\x07\x08\x7f", "\\x07\\x08\\x7f"),
        ("a\rb", "a\\rb"),
        ("\x9b", "\\x9b"),
        ("\u202e\u2066", "\\u202e\\u2066"),
        ("\u2028\u2029", "\\u2028\\u2029"),
        ("\ud800", "\\ud800"),
        ("\U000e0041", "\\U000e0041"),
        ("a\tb", "a    b"),
    ],
)
def test_what_commands_a_terminal_is_written_out(hidden: str, written_out: str) -> None:
    assert safe(hidden) == written_out


@pytest.mark.parametrize(
    ("told", "masked"),
    [
        ("postgresql://me:pw@host/db", "postgresql://me:***@host/db"),
        ("a mysql+pymysql://me:p@w@host and more", "a mysql+pymysql://me:***@host and more"),
        ("redis://:pw@host", "redis://:***@host"),
        ("http://host:8000/a@b", "http://host:8000/a@b"),
        ("12:30 @ noon", "12:30 @ noon"),
    ],
)
def test_passwords_of_urls_are_masked(told: str, masked: str) -> None:
    assert mask(told) == masked


def test_the_passwords_of_this_environment_are_masked_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://me:very%20secret@host/db")

    assert mask("fe_sendauth: very secret was wrong") == "fe_sendauth: *** was wrong"
    assert mask("password=very%20secret") == "password=***"
    assert mask("very secretive") == "very secretive"


@pytest.mark.parametrize("word", ["postgres", "shop", "db.example"])
def test_a_password_that_is_a_public_name_hides_no_words(
    monkeypatch: pytest.MonkeyPatch, word: str
) -> None:
    monkeypatch.setenv("DATABASE_URL", f"postgresql://postgres:{word}@db.example/shop")

    assert mask(f'user "{word}"') == f'user "{word}"'


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        *(
            (-5, "0 ms"),
            (0, "0 ms"),
            (0.0004, "0 ms"),
            (0.25, "250 ms"),
            (1, "1 s"),
            (9.94, "9.9 s"),
        ),
        *((59, "59 s"), (119, "119 s"), (599.9, "10 min"), (7199, "120 min"), (86_400, "24 h")),
        (1e6, "12 d"),
    ],
)
def test_durations_in_words(seconds: float, words: str) -> None:
    assert span(seconds) == words


def test_the_first_line_that_says_something() -> None:
    assert first_line("\n\n  ValueError: x \n more") == "ValueError: x"
    assert first_line(None) == first_line(" \n ") == ""
