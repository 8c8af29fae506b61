"""Templates: what is shipped, what is one's own, and what goes wrong."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jinja2
import pytest

from jobs.handlers.errors import MailRefused
from jobs.handlers.mail import render as rendering
from jobs.handlers.mail.render import register_templates, render, template_names
from tests.mail.samples import LEAST, SAMPLES

SHIPPED = [
    *("alert-notification", "order-confirmation", "password-reset", "report-delivery"),
    *("shipping-notification", "team-invitation", "welcome"),
]


@pytest.fixture(autouse=True)
def _nothing_registered() -> Iterator[None]:
    yield
    if rendering._registered:
        rendering._registered.clear()
        rendering._environment.cache_clear()


def test_the_seeds_templates_are_shipped() -> None:
    assert template_names() == SHIPPED
    assert sorted(SAMPLES) == sorted(LEAST) == SHIPPED


@pytest.mark.parametrize("name", SHIPPED)
@pytest.mark.parametrize("data", [SAMPLES, LEAST], ids=["all", "least"])
def test_a_shipped_template_has_three_parts(name: str, data: dict[str, dict[str, Any]]) -> None:
    filled = render(name, data[name], brand="Shop")

    assert filled.subject
    assert "\n" not in filled.subject
    assert filled.html
    assert filled.text
    assert filled.html.startswith("<!doctype html>")
    assert "max-width:600px" in filled.html
    assert not re.search(r"\n{4,}|{[{%]|Undefined|None", filled.text)
    for value in data[name].values():
        if isinstance(value, str):
            assert value.splitlines()[0] in filled.text + str(filled.subject)
    # Nothing is fetched: many programs show nothing from elsewhere, and it would tell of readers.
    assert not re.search(r"<(img|script|link|iframe)\b|@import|url\(", filled.html)


@pytest.mark.parametrize("name", SHIPPED)
def test_what_a_shipped_template_cannot_do_without_is_named(name: str) -> None:
    for missing in LEAST[name]:
        data = {key: value for key, value in SAMPLES[name].items() if key != missing}
        with pytest.raises(MailRefused, match=f"{name}.*'{missing}' is undefined; put it into"):
            render(name, data)


@pytest.mark.parametrize("name", SHIPPED)
def test_html_is_escaped_and_text_is_not(name: str) -> None:
    nasty = "<script>alert(1)</script> & co"

    def soiled(value: Any, key: str = "") -> Any:
        if isinstance(value, dict):
            return {inner: soiled(each, inner) for inner, each in value.items()}
        if isinstance(value, list):
            return [soiled(each) for each in value]
        return nasty if isinstance(value, str) and not key.endswith("Url") else value

    filled = render(name, soiled(SAMPLES[name]), brand=nasty)
    assert filled.html
    assert filled.text

    assert "<script" not in filled.html
    assert "&lt;script&gt;" in filled.html
    assert nasty in filled.text + str(filled.subject)


@pytest.mark.parametrize(
    "url",
    [
        "javascript:alert(1)",
        " JAVASCRIPT:alert(1)",
        "java\nscript:alert(1)",
        "data:text/html,x",
        "/reset",
        "shop.example/reset",
        "https://shop.example/a b",
        "",
    ],
)
def test_a_link_is_a_web_address(url: str) -> None:
    with pytest.raises(MailRefused, match=r"password-reset.*is no link"):
        render("password-reset", {"resetUrl": url})


def test_underscores_are_dashes() -> None:
    assert "2026-10427" in str(render("order_confirmation", SAMPLES["order-confirmation"]).subject)


def test_no_such_template_lists_those_there_are() -> None:
    with pytest.raises(MailRefused, match="no template 'order'; the templates: alert-not"):
        render("order", {})


@pytest.mark.parametrize("name", ["", "../secret", "a/b", "_base", ".env", "a.html", "x" * 101])
def test_a_name_is_no_path(name: str) -> None:
    with pytest.raises(MailRefused, match="no name of a template"):
        render(name, {})


# --- one's own


def test_a_directory_of_ones_own_goes_first(tmp_path: Path) -> None:
    (tmp_path / "welcome.html").write_text("<b>{{ name }}</b>")
    (tmp_path / "bye.txt").write_text("Bye {{ order.items }} {{ order.items[0] }}\n")
    own = str(tmp_path)

    assert render("welcome", {"name": "<A>"}, directory=own).html == "<b>&lt;A&gt;</b>"
    # The other parts of the same name are those that are shipped.
    assert "Welcome, Ada" in str(render("welcome", {"name": "Ada"}, directory=own).text)
    filled = render("bye", {"order": {"items": ["x"]}}, directory=own)
    assert (filled.subject, filled.html, filled.text) == (None, None, "Bye ['x'] x\n")
    assert template_names(own) == sorted([*SHIPPED, "bye"])


def test_the_shipped_layout_can_be_used_and_replaced(tmp_path: Path) -> None:
    (tmp_path / "hello.html").write_text(
        '{% extends "_base.html" %}{% block body %}Hello{% endblock %}'
    )
    assert "max-width:600px" in str(render("hello", {}, directory=str(tmp_path)).html)
    rendering._environment.cache_clear()  # as the next deployment does
    (tmp_path / "_base.html").write_text("<main>{% block body %}{% endblock %}</main>")
    assert render("hello", {}, directory=str(tmp_path)).html == "<main>Hello</main>"


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    import os

    file = tmp_path / "hello.txt"
    file.write_text("one")
    assert render("hello", {}, directory=str(tmp_path)).text == "one"
    file.write_text("two")
    os.utime(file, (1, 1))
    assert render("hello", {}, directory=str(tmp_path)).text == "two"


def test_loaders_are_searched_the_latest_first(tmp_path: Path) -> None:
    (tmp_path / "hello.txt").write_text("from the directory")
    register_templates(tmp_path)
    assert render("hello", {}).text == "from the directory"
    register_templates(jinja2.DictLoader({"hello.txt": "from the loader"}))
    assert render("hello", {}).text == "from the loader"


WRONG = {
    "syntax": ("{% if %}", "file 'own.txt', line 1: Expected an expression"),
    "gone": ("{% include 'nowhere.txt' %}", "asks for 'nowhere.txt', which is not there"),
    "inside": ("{{ order.number }}", "has no attribute 'number'; put it into data"),
    "sum": ("{{ 1 / 0 }}", "ZeroDivisionError"),
    "types": ("{{ 'a' + 1 }}", "TypeError"),
    "escape": ("{{ ''.__class__.__mro__ }}", "SecurityError|unsafe"),
    "endless": ("{% for n in range(10000000) %}{% endfor %}", "OverflowError"),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_template_that_goes_wrong_is_named(what: str, tmp_path: Path) -> None:
    text, said = WRONG[what]
    (tmp_path / "own.txt").write_text(text)
    with pytest.raises(MailRefused, match=said):
        render("own", {"order": {}}, directory=str(tmp_path))


def test_data_cannot_be_a_template() -> None:
    text = render("welcome", {"name": "{{ 7 * 7 }}"}).text

    assert "{{ 7 * 7 }}" in str(text)
