"""The behaviour suite by area; :mod:`jobs.testing.conformance` joins them."""

from pkgutil import iter_modules

import pytest

# Before they are imported: their plain asserts are to explain themselves like a test's own.
pytest.register_assert_rewrite(*(f"{__name__}.{module.name}" for module in iter_modules(__path__)))
