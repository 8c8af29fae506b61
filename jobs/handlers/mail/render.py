"""Templates of mails: `NAME.html`, `NAME.txt` and `NAME.subject`, written in Jinja2.

Searched in this order: the directory EMAIL_TEMPLATES, what `register_templates` was given, and the
templates that are shipped beside this file. Any of the three files may be missing, as long as there
is a body. HTML is escaped, a variable that is missing is an error that names it, and templates run
in Jinja2's sandbox: they may come from a database.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment

from jobs.handlers.errors import MailRefused

SHIPPED: Final = Path(__file__).parent / "templates"
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")
_LINKS: Final = frozenset({"http", "https", "mailto"})
_registered: list[jinja2.BaseLoader] = []


@dataclass(frozen=True, slots=True)
class Rendered:
    """A template with its data filled in; what it has no file for is None."""

    subject: str | None
    text: str | None
    html: str | None


def register_templates(source: str | Path | jinja2.BaseLoader) -> None:
    """Search for templates here as well: before the shipped ones, and before earlier calls' places.

    source: a directory, or a loader of Jinja2
    """
    loader = source if isinstance(source, jinja2.BaseLoader) else jinja2.FileSystemLoader(source)
    _registered.insert(0, loader)
    _environment.cache_clear()


def render(
    name: str, data: Mapping[str, Any], *, directory: str | None = None, brand: str = ""
) -> Rendered:
    """Fill in a template.

    name: as in `order-confirmation`; underscores are the same as dashes
    data: its variables
    directory: searched first (EMAIL_TEMPLATES)
    brand: the variable `brand`, the sender's name as readers see it, unless the data have one
    Raises MailRefused when there is no such template, a variable is missing, or it goes wrong.
    """
    if not _NAME.fullmatch(name):
        raise MailRefused(f"{name!r:.100} is no name of a template: write letters, digits and -")
    environment = _environment(directory)
    variables = {"brand": brand, **data}
    subject, text, html = (
        _part(environment, name, ending, variables) for ending in ("subject", "txt", "html")
    )
    if text is None and html is None:
        there = ", ".join(template_names(directory))
        raise MailRefused(f"there is no template {name!r}; the templates: {there}")
    if subject is not None:
        subject = " ".join(subject.split())
    return Rendered(subject, text, html)


def template_names(directory: str | None = None) -> list[str]:
    """Return the names of the templates that can be rendered, sorted.

    directory: searched as well (EMAIL_TEMPLATES)
    """
    files = _environment(directory).list_templates(
        filter_func=lambda file: file.endswith((".html", ".txt")) and file[0] not in "_."
    )
    return sorted({file.rpartition(".")[0] for file in files if "/" not in file})


def _part(
    environment: jinja2.Environment, name: str, ending: str, variables: Mapping[str, Any]
) -> str | None:
    files = [f"{name}.{ending}", f"{name.replace('_', '-')}.{ending}"]
    try:
        template = environment.select_template(files)
    except jinja2.TemplatesNotFound:
        return None
    except jinja2.TemplateSyntaxError as error:
        raise MailRefused(_syntax(error)) from error
    try:
        return template.render(variables)
    except jinja2.TemplateNotFound as error:
        raise MailRefused(
            f"template {name!r} asks for {error.name!r}, which is not there"
        ) from error
    except jinja2.TemplateSyntaxError as error:  # in a file that it asks for
        raise MailRefused(_syntax(error)) from error
    except jinja2.UndefinedError as error:
        raise MailRefused(f"template {name!r}: {error.message}; put it into data") from error
    except Exception as error:  # whatever it does with its data, it does at every attempt
        raise MailRefused(f"template {name!r}: {type(error).__name__}: {error}") from error


def _syntax(error: jinja2.TemplateSyntaxError) -> str:
    return f"template file {error.name!r}, line {error.lineno}: {error.message}"


class _Environment(ImmutableSandboxedEnvironment):
    """In JSON `order.items` is a field of the order, and not a method of a dict."""

    def getattr(self, obj: Any, attribute: str) -> Any:
        if isinstance(obj, Mapping):
            return self.getitem(obj, attribute)
        return super().getattr(obj, attribute)


@lru_cache(maxsize=8)
def _environment(directory: str | None) -> jinja2.Environment:
    places: list[jinja2.BaseLoader] = [*_registered, jinja2.FileSystemLoader(SHIPPED)]
    if directory:
        places.insert(0, jinja2.FileSystemLoader(directory))
    environment = _Environment(
        loader=jinja2.ChoiceLoader(places),
        autoescape=jinja2.select_autoescape(["html"]),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["link"] = _link
    environment.filters["money"] = _money
    return environment


def _link(url: Any) -> str:
    """A URL that may stand in a link: escaping alone would let `javascript:` through."""
    text = str(url).strip()
    if urlsplit(text).scheme.lower() not in _LINKS or re.search(r"[\s\x00-\x1f]", text):
        raise MailRefused(f"{text!r:.100} is no link: write http://, https:// or mailto:")
    return text


def _money(amount: Any, currency: str = "") -> str:
    """An amount with two decimals and thousands, its currency before it; a text as it is.

    >>> _money(1499.5, "EUR"), _money("1.499,50 EUR")
    ('EUR 1,499.50', '1.499,50 EUR')
    """
    is_number = isinstance(amount, int | float) and not isinstance(amount, bool)
    text = f"{amount:,.2f}" if is_number else str(amount)
    if not currency:
        return text
    return f"{currency} {text}" if currency[-1].isalnum() else f"{currency}{text}"
