"""`explain` against logs whose cause is known: `python -m benchmarks.explain FILE.jsonl`.

Each line of FILE is one case: `id`, `cause` (the canonical id; `none` for a log whose trouble is not the
environment's) and `log`. Nothing is looked at but the log. Asked is

    precision        of the cases for which a cause is named, how many have that cause
    recall           of the cases that have a cause, for how many it is named
    harmless_blamed  of the cases with `none`, how many are blamed on the environment

Then come the confusion by cause and the misses. The last line is one JSON object.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct

from cudadoctor.explain.cause import explain
from cudadoctor.explain.scan import scan
from cudadoctor.explain.signatures import rows

NONE = "none"


class Judged(Struct, frozen=True):
    """One case, and what is said of it."""

    id: str
    cause: str
    named: str
    line: str  #: which the cause is named by

    @property
    def is_right(self) -> bool:
        return self.named == self.cause


def named(log: str) -> tuple[str, str]:
    """Return the cause that is named of a log, and the line that tells it; "none" where none is."""
    told = explain(scan(rows(), [log.encode("utf-8", "surrogatepass")]), "log")
    if told.root is not None:
        return told.root.cause, told.root.text
    # What only looks like a trouble has a name too.
    for seen in told.harmless:
        if seen.cause != NONE:
            return seen.cause, seen.text
    return NONE, told.last_error


def judge(case: Mapping[str, Any]) -> Judged:
    """Return what is said of one case."""
    cause, line = named(case["log"])
    return Judged(str(case.get("id", "?")), case["cause"], cause, line)


def summary(judged: Sequence[Judged]) -> dict[str, float | int]:
    """Return the figures; a ratio without cases is 1."""
    blamed = [each for each in judged if each.named != NONE]
    ill = [each for each in judged if each.cause != NONE]
    well = [each for each in judged if each.cause == NONE]
    return {
        "cases": len(judged),
        "precision": sum(each.is_right for each in blamed) / len(blamed) if blamed else 1.0,
        "recall": sum(each.is_right for each in ill) / len(ill) if ill else 1.0,
        "harmless_blamed": sum(each.named != NONE for each in well),
        "harmless": len(well),
    }


def show(judged: Sequence[Judged]) -> None:
    """Print the confusion by cause, the misses, and the figures."""
    number = Counter(each.cause for each in judged)
    right = Counter(each.cause for each in judged if each.is_right)
    print(f"{'cause':<40} {'cases':>5} {'right':>5}  named instead")
    for cause in sorted(number):
        wrong = Counter(each.named for each in judged if each.cause == cause and not each.is_right)
        instead = ", ".join(f"{name} {count}" for name, count in wrong.most_common())
        print(f"{cause:<40} {number[cause]:>5} {right[cause]:>5}  {instead}")
    print()
    for each in judged:
        if not each.is_right:
            print(f"miss {each.id}: {each.cause}, named {each.named}: {each.line[:160]}")
    figures = summary(judged)
    print(
        f"\nprecision {figures['precision']:.3f}, recall {figures['recall']:.3f}, "
        f"harmless blamed {figures['harmless_blamed']} of {figures['harmless']}"
    )
    print(json.dumps(figures))


def main(argv: Sequence[str]) -> int:
    """Judge the cases of every file."""
    if not argv:
        print("usage: python -m benchmarks.explain FILE.jsonl ...", file=sys.stderr)
        return 2
    judged = []
    for name in argv:
        try:
            with open(name, encoding="utf-8") as stream:
                judged += [judge(json.loads(line)) for line in stream if line.strip()]
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            print(f"{name}: no file of cases: {error!r}", file=sys.stderr)
            return 2
    show(judged)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
