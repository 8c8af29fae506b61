"""The command line of the measurements."""

from __future__ import annotations

import argparse
import json
import sys

from benchmarks import aws, core, dashboard, flow, latency, worker


def main() -> int:
    """Run one suite and print one JSON object."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    suites = parser.add_subparsers(dest="suite", required=True)
    one = suites.add_parser("core", help="enqueue, claim, process, cold start")
    one.add_argument("--database", required=True, help="a URL; tables under bench_ are replaced")
    one.add_argument("--jobs", type=int, default=50_000, help="how many no-op jobs to process")
    one.add_argument("--rows", type=int, default=1_000_000, help="history and backlog for claims")
    one.add_argument("--only", default="", help="comma-separated parts: " + ", ".join(core.PARTS))
    one.add_argument("--json", action="store_true", help="one JSON object and nothing else")
    two = suites.add_parser("lambda", help="records of an SQS queue, cold start of their handler")
    two.add_argument("--database", required=True, help="a URL; tables under bench_ are replaced")
    two.add_argument("--jobs", type=int, default=1000, help="how many no-op jobs in a turn")
    two.add_argument("--json", action="store_true", help="one JSON object and nothing else")
    four = suites.add_parser(
        "latency", help="enqueue to start, by kick and by worker; their costs; idle ticks"
    )
    four.add_argument("--database", required=True, help="a URL; tables under bench_ are replaced")
    four.add_argument("--jobs", type=int, default=300, help="how many enqueues to measure")
    four.add_argument("--json", action="store_true", help="one JSON object and nothing else")
    three = suites.add_parser("flow", help="claims with limits, tenants and breakers")
    three.add_argument("--database", required=True, help="a URL; tables under bench_ are replaced")
    three.add_argument("--rows", type=int, default=200_000, help="the larger backlog")
    three.add_argument("--json", action="store_true", help="one JSON object and nothing else")
    pages = suites.add_parser("dashboard", help="every page of the dashboard, a million jobs")
    pages.add_argument("--database", required=True, help="a URL; tables under bench_ are replaced")
    pages.add_argument("--rows", type=int, default=1_000_000, help="how many jobs there are")
    pages.add_argument("--json", action="store_true", help="one JSON object and nothing else")
    options = parser.parse_args()
    say = (lambda text: None) if options.json else (lambda text: print(text, file=sys.stderr))
    if options.suite != "core":
        if options.suite == "lambda":
            figures = aws.measure(options.database, options.jobs, say)
        elif options.suite == "latency":
            figures = latency.measure(options.database, options.jobs, say)
            figures |= worker.measure(options.database, options.jobs, say)
        elif options.suite == "dashboard":
            figures = dashboard.measure(options.database, options.rows, say)
        else:
            figures = flow.measure(options.database, options.rows, say)
        print(json.dumps(figures, indent=None if options.json else 2))
        return 0
    only = [name for name in options.only.split(",") if name]
    unknown = sorted(set(only) - set(core.PARTS))
    if unknown:
        parser.error(f"no part is called {', '.join(unknown)}")
    figures = core.measure(options.database, options.jobs, options.rows, only, say)
    print(json.dumps(figures, indent=None if options.json else 2))
    return 0


sys.exit(main())
