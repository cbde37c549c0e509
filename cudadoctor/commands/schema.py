"""`cudadoctor schema`: the JSON Schema of a report."""

from __future__ import annotations

import argparse
import sys

import msgspec

from cudadoctor.report import schema


def run(options: argparse.Namespace) -> int:
    """Print the schema."""
    sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(schema()), indent=2) + b"\n")
    return 0
