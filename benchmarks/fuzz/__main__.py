"""Hostile inputs for all that reads what others wrote: `python -m benchmarks.fuzz [--inputs N] [--seed N]`.

Reports and facts, logs, and settings are made by hypothesis: of any bytes, of the right types with odd
values, and from real ones that are changed. What is accepted goes through everything that is done with it:
every check, the planner, the redactor, every renderer. Told is of each reader

    inputs      how many it was given, and how many of them were different ones
    rejected    with one clear line
    accepted    for a log: how many named a cause
    slowest     milliseconds of processor time for one input
    growth      of resident memory after the first fifth

Then come the crashes, each with the smallest input that was found for it, and the expressions of rows that
take long on a text made to keep them busy. The last line is one JSON object. Exits 1 where anything went
wrong.
"""

from __future__ import annotations

import argparse
import json
import re
import resource
import sys
import time
import warnings
from collections.abc import Iterator, Sequence

from benchmarks.fuzz import backtracking, logs, reports, settings
from benchmarks.fuzz.running import LIMIT_S, Figures, Reader, run
from cudadoctor.explain import lines, scan
from cudadoctor.explain.signatures import rows

#: What an input may make the process grow to: beyond it is a crash, and not the end of the machine.
_MOST_BYTES = 6 << 30
#: Characters of a line that an expression is ever given.
LONGEST = 2 * lines.WINDOW


def expressions() -> Iterator[tuple[str, re.Pattern[str]]]:
    """Yield every expression that reads a log, with its name."""
    for row in rows():
        for what, found in (("match", row.match), ("unless", row.unless)):
            if found is not None:
                yield f"{row.id}: {what}", found
    yield from own_expressions()


def own_expressions() -> Iterator[tuple[str, re.Pattern[str]]]:
    """Yield the expressions of the scanner; those that only ever match at a start are tried there alone."""
    for number, prefix in enumerate(lines._PREFIXES):
        yield f"prefix {number}", re.compile(rf"\A\s*(?:{prefix})")
    for module in (lines, scan):
        for name, value in vars(module).items():
            if isinstance(value, re.Pattern) and value is not lines._PREFIX:
                pattern = value.pattern
                text = pattern.decode() if isinstance(pattern, bytes) else pattern
                yield f"{module.__name__.rpartition('.')[2]}.{name}", re.compile(text)
    yield "lines._PREFIX", re.compile(rf"\A(?:{lines._PREFIX.pattern})")


def main(argv: Sequence[str]) -> int:
    """Give every reader its share of the inputs and print what became of them."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fuzz", description="Hostile inputs.")
    parser.add_argument("--inputs", type=int, default=100_000, help="of all readers together")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", help="readers with this in their names")
    parser.add_argument("--quick", action="store_true", help="start from the saved reports alone")
    options = parser.parse_args(argv)
    warnings.simplefilter("ignore")
    resource.setrlimit(resource.RLIMIT_AS, (_MOST_BYTES, resource.getrlimit(resource.RLIMIT_AS)[1]))
    seeds = reports.Seeds([*reports.saved(), *(() if options.quick else reports.harvested())])
    print(f"{len(seeds)} real facts to start from", flush=True)
    readers = [*reports.readers(seeds), *logs.readers(), *settings.readers()]
    chosen = [reader for reader in readers if options.only in reader.name]
    figures = _all(chosen, options.inputs, options.seed)
    slow = [] if options.only else list(_slow())
    print(json.dumps(_summary(figures, len(slow))))
    return 1 if slow or any(each.crashes for each in figures) else 0


def _all(readers: Sequence[Reader], inputs: int, seed: int) -> list[Figures]:
    heads = ("inputs", "different", "rejected", "accepted", "slowest", "growth", "taken")
    print(f"{'reader':<34}" + "".join(f"{head:>11}" for head in heads))
    shares = sum(reader.share for reader in readers)
    found = []
    for reader in readers:
        started = time.monotonic()
        each = run(reader, -(-inputs * reader.share // shares), seed)
        found.append(each)
        taken_s = time.monotonic() - started
        counts = (each.inputs, each.different, each.rejected, each.accepted)
        measured = (f"{each.slowest_ms:.0f} ms", f"{each.growth_mib:.0f} MiB", f"{taken_s:.0f} s")
        print(f"{each.reader:<34}" + "".join(f"{one:>11}" for one in (*counts, *measured)), flush=True)
    for each in found:
        for crash in each.crashes.values():
            print(
                f"\nCRASH {each.reader}, {crash.count} times: {crash.kind}\n  {crash.what}\n  {crash.example}"
            )
        if each.slowest_ms > LIMIT_S * 1000:
            print(f"\nSLOW {each.reader}: {each.slowest_ms:.0f} ms\n  {each.slowest}")
    return found


def _slow() -> Iterator[str]:
    """Print and yield the expressions that a text can keep busy."""
    number = 0
    for name, found in expressions():
        number += 1
        slow = backtracking.worst(found, LONGEST)
        if slow is not None:
            yield name
            text = f"{slow.start!r:.60} + {slow.run!r:.60} * n + {slow.end!r:.60}"
            print(f"SLOW {name}: {slow.seconds * 1000:.0f} ms for {slow.size} characters: {text}", flush=True)
    allowed = f"{backtracking.LIMIT_S * 1000:.0f} ms allowed"
    print(f"{number} expressions tried on up to {LONGEST} characters, {allowed}")


def _summary(figures: Sequence[Figures], slow: int) -> dict[str, float]:
    return {
        "inputs": sum(each.inputs for each in figures),
        "different": sum(each.different for each in figures),
        "rejected": sum(each.rejected for each in figures),
        "accepted": sum(each.accepted for each in figures),
        "crashes": sum(len(each.crashes) for each in figures),
        "slowest_ms": round(max((each.slowest_ms for each in figures), default=0.0), 1),
        "growth_mib": round(sum(each.growth_mib for each in figures), 1),
        "peak_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
        "slow_expressions": slow,
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
