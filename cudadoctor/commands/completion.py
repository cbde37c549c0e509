"""`cudadoctor completion SHELL`: a completion script, made from the parser itself.

The names of checks, fixes and cards are written into the script: a shell that started Python at each press of
the key would be slow.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Iterator

from cudadoctor.cli import build_parser
from cudadoctor.knowledge import gpus
from cudadoctor.registry import load, load_fixes


def run(options: argparse.Namespace) -> int:
    """Print the script."""
    import shtab

    print(shtab.complete(completable(), shell=options.shell))
    return 0


def completable() -> argparse.ArgumentParser:
    """Return the parser, with what each argument may be said in shtab's terms."""
    import shtab

    parser = build_parser()
    kinds = {"DIR": shtab.DIRECTORY, "FILE": shtab.FILE, "EXE": shtab.FILE, "LOG": shtab.FILE}
    kinds |= {"A": shtab.FILE, "B": shtab.FILE}
    names = _names()
    for command, action in _arguments(parser):
        if kind := kinds.get(str(action.metavar)):
            action.complete = kind  # type: ignore[attr-defined]
        elif known := names.get(action.dest if action.dest != "name" else f"{command} name"):
            fixes = names["fixes"] if command in ("fix", "env", "docs") and action.dest != "ignore" else ()
            action.choices = [*known, *fixes]
    return parser


def _names() -> dict[str, tuple[str, ...]]:
    """Return the names that an argument may take, by its place in the parsed options."""
    checks = _plain(load().checks)
    return {
        "names": checks,
        "ignore": checks,
        "docs name": checks,  # of another command it is a conda environment
        "fixes": _plain(load_fixes().fixes),
        "gpu": _plain(gpus.names()),
    }


def _plain(names: Iterable[str]) -> tuple[str, ...]:
    """Return the names that a shell takes as they stand: a plug-in may call a check anything."""
    return tuple(name for name in names if re.fullmatch(r"\w[\w.-]*", name, re.ASCII))


def _arguments(parser: argparse.ArgumentParser, command: str = "") -> Iterator[tuple[str, argparse.Action]]:
    """Yield every option and argument with the command that it is of."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, inner in action.choices.items():
                yield from _arguments(inner, name)
        else:
            yield command, action
