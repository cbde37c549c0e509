"""The manual page, in roff, from the same parser as --help.

Written by hand rather than by argparse-manpage: that one would be a dependency of every installation, and a
page out of its hands breaks its lines as wide as the terminal of the day.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Sequence

ENVIRONMENT = (
    ("VIRTUAL_ENV, CONDA_PREFIX, PATH", "Which environment is looked at where no option names one."),
    ("NO_COLOR, FORCE_COLOR", "Without colours; with colours where the output is no terminal."),
    ("COLUMNS", "How wide the help is."),
    ("XDG_STATE_HOME", "Where journals lie of an environment that cannot hold its own."),
    (
        "GITHUB_ACTIONS, GITHUB_STEP_SUMMARY",
        "In a step of GitHub Actions check and preflight print annotations below a report in text, and add "
        "the report to the file of the step's summary.",
    ),
)
FILES = (
    ("cudadoctor.toml", "Settings: fail-on, ignore, suppress. In the current folder or one above it."),
    ("pyproject.toml", "The same, in [tool.cudadoctor]."),
    ("PREFIX/etc/cudadoctor/journal/", "What fix has done in an environment, for undo."),
)
EXAMPLES = (
    ("What will fail in the active environment, and why:", "cudadoctor check"),
    (
        "The repair of what was found, first as a plan, then carried out:",
        "cudadoctor fix; cudadoctor fix --apply",
    ),
    (
        "In a launch script:",
        "exec cudadoctor run -- vllm serve MODEL",
    ),
    ("A report that can be judged elsewhere:", "cudadoctor check --format json > report.json"),
    ("The same verdicts on another machine:", "cudadoctor check --facts report.json"),
    (
        "The cause in a log, and all that a maintainer needs, without your secrets:",
        "cudadoctor explain serve.log; cudadoctor report --log serve.log > ticket.md",
    ),
    ("What the machine that works has otherwise:", "cudadoctor diff works.json broken.json"),
    ("This page:", "cudadoctor man | man -l -"),
)


def render(parser: argparse.ArgumentParser, version: str, ends: str) -> str:
    """Return the page of a parser with commands; `ends` is the text on exit codes in the epilogs."""
    return "\n".join(_lines(parser, version, ends)) + "\n"


def _lines(parser: argparse.ArgumentParser, version: str, ends: str) -> Iterator[str]:
    name = parser.prog
    yield f'.TH {name.upper()} 1 "" "{name} {version}" "User Commands"'
    # No hyphenation, no justification: what is copied from the page is as it was typed.
    yield from (".nh", ".ad l")
    summary = (parser.description or "").rstrip(".")
    yield from (".SH NAME", rf"{name} \- {_text(summary[:1].lower() + summary[1:])}")
    yield from (".SH SYNOPSIS", rf".B {name}", r"\fICOMMAND\fR [\fIoptions\fR]")
    yield from (".SH DESCRIPTION", *_paragraphs(parser.description or ""))
    yield from _options(parser, own=True)
    yield ".SH COMMANDS"
    for command in _commands(parser):
        yield from _command(command, ends)
    yield from (".SH EXIT STATUS", *_paragraphs(ends.partition(":\n")[2]))
    for title, rows in (("ENVIRONMENT", ENVIRONMENT), ("FILES", FILES)):
        yield f".SH {title}"
        for term, meaning in rows:
            yield from (".TP", f".B {_text(term)}", _text(meaning))
    yield ".SH EXAMPLES"
    for number, (what, line) in enumerate(EXAMPLES):
        yield from (
            *([".PP"] if number else []),
            _text(what),
            ".PP",
            ".RS 4",
            ".nf",
            _text(line),
            ".fi",
            ".RE",
        )


def _commands(parser: argparse.ArgumentParser) -> list[argparse.ArgumentParser]:
    actions = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    return [command for action in actions for command in action.choices.values()]


def _command(command: argparse.ArgumentParser, ends: str) -> Iterator[str]:
    words = [_argument(action) for action in command._actions if not action.option_strings]
    options = r" [\fIoptions\fR]" if len(command._actions) > len(words) + 1 else ""
    yield f".SS \\fB{_text(command.prog)}\\fR{options}{''.join(f' {word}' for word in words)}"
    yield from _paragraphs(command.description or "", (command.epilog or "").replace(ends, ""))
    yield from _options(command)


def _options(parser: argparse.ArgumentParser, own: bool = False) -> Iterator[str]:
    """Yield every option and argument of a parser by its groups; those of the program under a heading."""
    if own:
        yield ".SH OPTIONS"
    for group in parser._action_groups:
        shown = [
            action
            for action in group._group_actions
            if not isinstance(action, argparse._SubParsersAction)
            and (own or not isinstance(action, argparse._HelpAction))
        ]
        if shown and group.description:
            yield from (
                ".PP",
                rf"\fI{_text((group.title or '').capitalize())}\fR: {_text(group.description)}",
            )
        for action in shown:
            yield from (".TP", _term(action), _text(parser._get_formatter()._expand_help(action)))


def _term(action: argparse.Action) -> str:
    if not action.option_strings:
        return _argument(action)
    value = f" {_value(action)}" if action.nargs != 0 else ""
    return ", ".join(rf"\fB{_text(option)}\fR" for option in action.option_strings) + value


def _argument(action: argparse.Action) -> str:
    """Return an argument as a usage line has it: [NAME ...]."""
    value = _value(action)
    return {"*": f"[{value} ...]", "?": f"[{value}]"}.get(str(action.nargs), value)


def _value(action: argparse.Action) -> str:
    if action.metavar is None and action.choices is not None:
        return "|".join(_text(str(choice)) for choice in action.choices)
    return rf"\fI{_text(str(action.metavar or action.dest.upper()))}\fR"


def _paragraphs(*texts: str) -> Iterator[str]:
    """Yield texts as paragraphs below a heading; lines that are set in, or are commands, stay lines."""
    paragraphs = [each for text in texts for each in re.split(r"\n\s*\n", text.strip("\n")) if each]
    for number, paragraph in enumerate(paragraphs):
        lines = paragraph.split("\n")
        if number:  # a heading begins one itself
            yield ".PP"
        yield from ((".nf", *map(_text, lines), ".fi") if _keeps_lines(lines) else map(_text, lines))


def _keeps_lines(lines: Sequence[str]) -> bool:
    return any(line.startswith(" ") for line in lines) or lines[0].startswith(("cudadoctor ", "vllm "))


def _text(text: str) -> str:
    """Return a text that roff takes as it stands."""
    escaped = text.replace("\\", r"\e").replace("-", r"\-")
    escaped = "".join(char if char.isascii() else rf"\[u{ord(char):04X}]" for char in escaped)
    return rf"\&{escaped}" if escaped.startswith((".", "'")) else escaped
