"""`cudadoctor completion SHELL`: a completion script, made from the parser itself."""

from __future__ import annotations

import argparse

from cudadoctor.cli import build_parser


def run(options: argparse.Namespace) -> int:
    """Print the script."""
    import shtab

    print(shtab.complete(build_parser(), shell=options.shell))
    return 0
