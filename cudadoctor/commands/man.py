"""`cudadoctor man`: the manual page, made from the parser itself."""

from __future__ import annotations

import argparse

from cudadoctor import __version__
from cudadoctor.cli import EPILOG, build_parser
from cudadoctor.render import manual


def page() -> str:
    """Return the page, in roff."""
    return manual.render(build_parser(), __version__, EPILOG)


def run(options: argparse.Namespace) -> int:
    """Print the page."""
    print(page(), end="")
    return 0
