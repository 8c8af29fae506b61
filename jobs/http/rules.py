"""A rule of the application whose way back, from values to a URL, is compiled when one is built."""

from __future__ import annotations

from collections.abc import Callable

from werkzeug.routing import Rule


class LateRule(Rule):
    """As Werkzeug's, which compiles two functions for each rule as soon as it is added.

    That is most of what a rule costs, and a tick's cold start would pay it for every route of the
    management and the dashboard. Werkzeug asks :meth:`_compile_builder` for the functions; where a
    later version asks otherwise, its rules are as they are made there.
    """

    def _compile_builder(self, append_unknown: bool = True) -> Callable[..., tuple[str, str]]:
        built: Callable[..., tuple[str, str]] | None = None

        def build(rule: Rule, **values: object) -> tuple[str, str]:
            nonlocal built
            if built is None:
                built = Rule._compile_builder(rule, append_unknown)
            return built(rule, **values)

        return build
