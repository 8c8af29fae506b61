"""What comes by messages is not much slower than what ticks find, on one database in one run."""

from __future__ import annotations

import pytest

from benchmarks.aws import records_beside_ticks
from tests.support.databases import Database

LEAST_RATIO = 0.8


@pytest.mark.slow
@pytest.mark.alone
def test_records_keep_up_with_ticks(database: Database) -> None:
    figures = records_beside_ticks(database.url, 300)
    assert figures["records_vs_ticks"] >= LEAST_RATIO, figures
