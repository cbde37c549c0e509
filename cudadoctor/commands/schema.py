"""`cudadoctor schema`: the JSON Schema of a report, of an explanation or of a difference."""

from __future__ import annotations

import argparse
import sys

import msgspec
from msgspec import Struct

from cudadoctor.report import Report, schema

KINDS = ("report", "explanation", "difference")


def run(options: argparse.Namespace) -> int:
    """Print the schema."""
    sys.stdout.buffer.write(published(options.kind))
    return 0


def published(kind: str) -> bytes:
    """Return the schema of a kind as docs/ holds it: JSON that ends with a newline."""
    schema_ = schema(_type(kind), f"cudadoctor {kind}")
    return msgspec.json.format(msgspec.json.encode(schema_), indent=2) + b"\n"


def _type(kind: str) -> type[Struct]:
    if kind == "explanation":
        from cudadoctor.explain.model import Explanation

        return Explanation
    if kind == "difference":
        from cudadoctor.compare import Difference

        return Difference
    return Report
