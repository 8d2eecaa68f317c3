"""Measure the token service and write docs/benchmarks/serving.md.

    python -m bench.serving                      everything; about half an hour, ten minutes of it the soak
    python -m bench.serving --only PART ...      these parts; the others keep their figures of earlier runs
    python -m bench.serving --quick              small weights, one turn: shows that the benchmark works, nothing else

Figures go to reports/serving.json part by part, so that a run that was broken off can be taken up with --only.
`nox -s bench -- serving ...` runs this in the tools' environment; services run in the service's own (`nox -s dev`).
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from bench.serving import page, report
from bench.serving.errors import BenchError
from bench.serving.parts import PARTS
from bench.serving.plan import Plan
from slipway.paths import STATE
from slipway.progress import say

_SOAK_SECONDS, _QUICK_SOAK_SECONDS = 600, 20


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="nox -s bench -- serving", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    listed = "; ".join(f"{name}: {part.__doc__.rstrip('.').lower()}" for name, part in PARTS.items() if part.__doc__)
    parser.add_argument("--only", action="append", choices=PARTS, metavar="PART", help=listed)
    parser.add_argument("--quick", action="store_true", help="small weights and one turn; writes no page")
    parser.add_argument("--seconds", type=int, help=f"length of the soak, {_SOAK_SECONDS} unless told")
    parser.add_argument("--turns", type=int, default=3, help="how often each side takes its turn, 3 unless told")
    parser.add_argument("--page", action="store_true", help="measure nothing, only write the pages again")
    return parser.parse_args()


def main() -> int:
    """Run the command line above; 0 even when a goal is missed, for the page says so."""
    options = _options()
    file = report.FILE.with_name("serving-quick.json") if options.quick else report.FILE
    failed = []
    with tempfile.TemporaryDirectory(prefix="slipway-bench-") as scratch:  # short: socket paths are limited
        seconds = options.seconds or (_QUICK_SOAK_SECONDS if options.quick else _SOAK_SECONDS)
        plan = Plan(Path(scratch), quick=options.quick, seconds=seconds, turns=max(1, options.turns))
        for name in () if options.page else dict.fromkeys(options.only or PARTS):
            began = time.monotonic()
            say(f"bench: {name}")
            try:
                report.save(name, PARTS[name].run(plan), file)
            except BenchError as error:
                say(f"bench: {name} could not be measured: {error}")
                failed.append(name)
            else:
                say(f"bench: {name} took {time.monotonic() - began:.0f} s")
    if not options.quick:
        page.write(report.load())
    if failed:
        say(f"bench: not measured: {', '.join(failed)}; run them again with --only")
    return 1 if failed else 0


if __name__ == "__main__":
    STATE.mkdir(exist_ok=True)
    sys.exit(main())
