"""The behaviour suite by area; `jobs.testing.conformance` joins them."""
