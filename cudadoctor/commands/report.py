"""`cudadoctor report`: everything that a maintainer needs, as one block for a ticket."""

from __future__ import annotations

import argparse
import os
import sys

from cudadoctor.commands import check, explain
from cudadoctor.commands.look import machine_names
from cudadoctor.explain.model import Explanation
from cudadoctor.mistakes import UserMistake
from cudadoctor.redact import Masked, for_facts
from cudadoctor.render.markdown import code
from cudadoctor.render.ticket import ticket
from cudadoctor.report import encode

#: What --output writes: the block, the report, and what the log tells.
FILES = ("report.md", "report.json", "explanation.json")


def run(options: argparse.Namespace) -> int:
    """Look, judge, and print or write; return what `check` would return."""
    if options.output:
        _must_be_free(options.output)
    if options.argv and not options.facts:
        from cudadoctor.commands.preflight import asked_for

        options.asked = asked_for(options)
    told = explain.read(options.log) if options.log else None
    report, config = check.made(options, whole=True)
    if told is not None:
        told = explain.judged(told, report)
    home = "" if report.replayed else os.path.expanduser("~")
    redactor = for_facts(report.facts, home, machine_names(report.replayed), thorough=True)
    shown = redactor.value(report)
    told = redactor.value(told) if told is not None else None
    data = encode(shown)
    block = ticket(shown, told, data, _masked(redactor.masked, options.show_masked))
    if options.output:
        _write(options.output, block, data, told)
    else:
        sys.stdout.write(block)
    return report.exit_code(check.threshold(options.fail_on or config.fail_on))


def _masked(masked: Masked, named: bool) -> list[str]:
    """Return how many values were masked, and where asked for of which kinds."""
    if not masked.total:
        return []
    said = f"{masked.total} value{'s' if masked.total > 1 else ''} masked"
    return [f"{said}: {', '.join(map(code, masked.names()))}" if named else said]


def _must_be_free(folder: str) -> None:
    """Refuse to write over a file, before minutes are spent on what goes into it."""
    for name in FILES:
        if os.path.lexists(os.path.join(folder, name)):
            raise UserMistake(f"--output {folder}: {name} is there already")
    if os.path.lexists(folder) and not os.path.isdir(folder):
        raise UserMistake(f"--output {folder}: is not a folder")


def _write(folder: str, block: str, data: bytes, told: Explanation | None) -> None:
    contents = (
        block.encode("utf-8", "backslashreplace"),
        data + b"\n",
        encode(told) + b"\n" if told else None,
    )
    try:
        os.makedirs(folder, exist_ok=True)
        for name, content in zip(FILES, contents, strict=True):
            if content is not None:
                with open(os.path.join(folder, name), "xb") as stream:
                    stream.write(content)
                print(os.path.join(folder, name))
    except OSError as error:
        raise UserMistake(f"--output {folder}: {error.strerror or error}") from None
