"""`cudadoctor docs NAME`: the whole page of a check or a fix."""

from __future__ import annotations

import argparse

from cudadoctor.mistakes import UserMistake, nearest
from cudadoctor.registry import load, load_fixes


def run(options: argparse.Namespace) -> int:
    """Print the page of the check, or of the fix; the fixes are loaded only where no check is meant."""
    checks = load().checks
    fixes = {} if options.name in checks else load_fixes().fixes
    page = checks.get(options.name) or fixes.get(options.name)
    if page is None:
        hint = nearest(options.name, [*checks, *fixes])
        raise UserMistake(f"no check and no fix is called {options.name!r}{hint} (see: cudadoctor list)")
    print(f"# {page.name}\n\n{page.doc}")
    return 0
