"""`cudadoctor list`: the checks and the fixes, by name and first sentence."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import msgspec

from cudadoctor.declare import Check, Fix
from cudadoctor.registry import Fixes, Registry, load, load_fixes
from cudadoctor.show import visible


def run(options: argparse.Namespace) -> int:
    """Print one line a check, then one a fix; plug-ins that could not be loaded go to stderr and exit 3."""
    checks, fixes = load(), load_fixes()
    if options.format == "json":
        rows = [*_rows(checks), *_rows(fixes)]
        sys.stdout.buffer.write(msgspec.json.encode(rows) + b"\n")
    elif options.format == "markdown":
        print(table(checks), fixes_table(fixes), sep="\n", end="")
    else:
        width = max(map(len, [*checks.checks, *fixes.fixes]))
        _print(tuple(checks.checks.values()), checks.origins, width)
        print("\nfixes, which findings ask for by name (`cudadoctor docs NAME` says what each does):\n")
        _print(tuple(fixes.fixes.values()), fixes.origins, width)
    failures = (*checks.failures, *fixes.failures)
    for failure in failures:
        print(visible(f"cudadoctor: {failure.check}: {failure.reason}"), file=sys.stderr)
    return 3 if failures else 0


def _rows(found: Registry | Fixes) -> list[dict[str, str]]:
    """Return the rows of the JSON list; a fix says how safe it is."""
    if isinstance(found, Fixes):
        return [
            {**_row("fix", fix, found.origins), "safety": fix.safety.value} for fix in found.fixes.values()
        ]
    return [_row("check", check, found.origins) for check in found.checks.values()]


def _row(kind: str, page: Check | Fix, origins: dict[str, str]) -> dict[str, str]:
    return {"kind": kind, "name": page.name, "title": page.title, "origin": origins[page.name]}


def _print(pages: Sequence[Check | Fix], origins: dict[str, str], width: int) -> None:
    for page in pages:
        origin = origins[page.name]
        labels = [] if origin == "cudadoctor" else [origin]
        labels += [page.safety.value] if isinstance(page, Fix) and page.safety.value != "safe" else []
        label = "".join(f"  [{label}]" for label in labels)
        print(visible(f"{page.name:<{width}}  {page.title}{label}"))


def table(registry: Registry) -> str:
    """Return the checks as a Markdown table, as docs/checks.md holds it."""
    rows = [f"| `{check.name}` | {check.title} |" for check in registry.checks.values()]
    return "\n".join(["| check | what it finds |", "| --- | --- |", *rows]) + "\n"


def fixes_table(fixes: Fixes) -> str:
    """Return the fixes as a Markdown table, as docs/fixes.md holds it."""
    rows = [f"| `{fix.name}` | {fix.safety.value} | {fix.title} |" for fix in fixes.fixes.values()]
    return "\n".join(["| fix | safety | what it does |", "| --- | --- | --- |", *rows]) + "\n"
