"""`cudadoctor facts`: what was seen, as JSON, without judging it."""

from __future__ import annotations

import argparse
import sys

from cudadoctor.commands.look import facts_for
from cudadoctor.engine import PROBES
from cudadoctor.redact import for_facts
from cudadoctor.report import encode


def run(options: argparse.Namespace) -> int:
    """Print every section of facts, redacted."""
    wanted = set(PROBES) if options.deep else set(PROBES) - {"deep"}
    facts = facts_for(options, wanted)
    sys.stdout.buffer.write(encode(for_facts(facts).value(facts)) + b"\n")
    return 0
