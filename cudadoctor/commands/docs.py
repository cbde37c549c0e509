"""`cudadoctor docs NAME`: a check's whole page."""

from __future__ import annotations

import argparse

from cudadoctor.mistakes import UserMistake, nearest
from cudadoctor.registry import load


def run(options: argparse.Namespace) -> int:
    """Print the page of the check."""
    registry = load()
    if options.name not in registry.checks:
        hint = nearest(options.name, registry.checks)
        raise UserMistake(f"no check is called {options.name!r}{hint} (see: cudadoctor list)")
    check = registry.checks[options.name]
    print(f"# {check.name}\n\n{check.doc}")
    return 0
