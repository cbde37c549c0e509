"""`cudadoctor facts`: what was seen, as JSON, without judging it."""

from __future__ import annotations

import argparse
import sys

from cudadoctor.commands.look import facts_for, machine_names
from cudadoctor.engine import everything
from cudadoctor.redact import for_facts
from cudadoctor.report import encode


def run(options: argparse.Namespace) -> int:
    """Print every section of facts, redacted."""
    facts = facts_for(options, everything(options.deep))
    sys.stdout.buffer.write(encode(for_facts(facts, hosts=machine_names(options.facts)).value(facts)) + b"\n")
    return 0
