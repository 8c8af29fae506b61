"""Measurements: ratios within one run, never a timed test. `python -m benchmarks core --help`."""
