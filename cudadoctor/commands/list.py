"""`cudadoctor list`: the checks, by name and first sentence."""

from __future__ import annotations

import argparse
import sys

import msgspec

from cudadoctor.registry import Registry, load
from cudadoctor.show import visible


def run(options: argparse.Namespace) -> int:
    """Print one line a check; plug-ins that could not be loaded go to stderr and exit 3."""
    registry = load()
    if options.format == "json":
        rows = [
            {"name": c.name, "title": c.title, "origin": registry.origins[c.name]}
            for c in registry.checks.values()
        ]
        sys.stdout.buffer.write(msgspec.json.encode(rows) + b"\n")
    elif options.format == "markdown":
        print(table(registry), end="")
    else:
        width = max(map(len, registry.checks))
        for check in registry.checks.values():
            origin = registry.origins[check.name]
            label = "" if origin == "cudadoctor" else f"  [{origin}]"
            print(visible(f"{check.name:<{width}}  {check.title}{label}"))
    for failure in registry.failures:
        print(visible(f"cudadoctor: {failure.check}: {failure.reason}"), file=sys.stderr)
    return 3 if registry.failures else 0


def table(registry: Registry) -> str:
    """Return the list as a Markdown table, as docs/checks.md holds it."""
    rows = [f"| `{check.name}` | {check.title} |" for check in registry.checks.values()]
    return "\n".join(["| check | what it finds |", "| --- | --- |", *rows]) + "\n"
