"""`cudadoctor report`: everything that a maintainer needs, as one block for a ticket."""

from __future__ import annotations

import argparse
import os
import sys

from cudadoctor.commands import check, explain
from cudadoctor.commands.look import machine_names, must_name_no_launch
from cudadoctor.explain.model import Explanation
from cudadoctor.mistakes import UserMistake
from cudadoctor.redact import Masked, for_facts
from cudadoctor.render.markdown import code
from cudadoctor.render.ticket import ticket
from cudadoctor.report import encode
from cudadoctor.show import visible

#: What --output writes: the block, the report, and what the log tells.
FILES = ("report.md", "report.json", "explanation.json")


def run(options: argparse.Namespace) -> int:
    """Look, judge, and print or write; return what `check` would return."""
    _refuse(options)
    if options.output:
        _prepare(options.output)
    if options.argv:
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


def _refuse(options: argparse.Namespace) -> None:
    """Refuse what cannot be meant."""
    if options.facts == options.log == "-":
        raise UserMistake("only one of --facts and --log can be read from stdin")
    if options.facts:
        must_name_no_launch(options)


def _masked(masked: Masked, named: bool) -> list[str]:
    """Return how many values were masked, and where asked for of which kinds."""
    if not masked.total:
        return []
    said = f"{masked.total} value{'s' if masked.total > 1 else ''} masked"
    if not named:
        return [said]
    names = masked.names()
    more = f", and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return [f"{said}: {', '.join(map(code, names[:_MOST_NAMES]))}{more}"]


_MOST_NAMES = 100  #: of what was masked: a log can hold any number


def _prepare(folder: str) -> None:
    """Make the folder, and refuse to write over a file, before minutes are spent on what goes into it."""
    for name in FILES:
        if os.path.lexists(os.path.join(folder, name)):
            raise UserMistake(f"--output {folder}: {name} is there already")
    if os.path.lexists(folder) and not os.path.isdir(folder):
        raise UserMistake(f"--output {folder}: is not a folder")
    try:
        os.makedirs(folder, exist_ok=True)
    except (OSError, ValueError) as error:
        raise UserMistake(f"--output {folder}: {getattr(error, 'strerror', None) or error}") from None
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UserMistake(f"--output {folder}: cannot be written to")


def _write(folder: str, block: str, data: bytes, told: Explanation | None) -> None:
    contents = (
        block.encode("utf-8", "backslashreplace"),
        data + b"\n",
        encode(told) + b"\n" if told else None,
    )
    try:
        for name, content in zip(FILES, contents, strict=True):
            if content is not None:
                with open(os.path.join(folder, name), "xb") as stream:
                    stream.write(content)
                print(visible(os.path.join(folder, name)))
    except OSError as error:
        raise UserMistake(f"--output {folder}: {error.strerror or error}") from None
