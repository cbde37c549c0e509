"""What `fix` and `undo` say, as data: the JSON contract, and what the text is made from."""

from __future__ import annotations

import posixpath
import shlex
from collections.abc import Iterator, Sequence

from msgspec import Struct

from cudadoctor.actions import (
    Action,
    Export,
    Install,
    MakeLink,
    MoveAside,
    RemoveLink,
    Show,
    TurnLink,
    WriteFile,
)
from cudadoctor.facts import Target, Unknown
from cudadoctor.plan import Change, Plan
from cudadoctor.report import Report, Tool
from cudadoctor.words import link, said, short

SCHEMA_VERSION = 1


class Line(Struct, frozen=True, omit_defaults=True):
    """One line of a plan."""

    number: int
    verb: str  #: link, turn, remove, write, move, install, or "" for what is only shown
    what: str  #: "lib64 -> lib"
    detail: str = ""  #: "exports CUDA_HOME"
    fix: str = ""
    safety: str = ""
    checks: tuple[str, ...] = ()  #: whose findings asked for it
    clears: tuple[str, ...] = ()  #: of these, those that it clears, as predicted
    refused: str = ""  #: why it is not done here
    steps: tuple[str, ...] = ()  #: everything it does, one file each
    notes: tuple[str, ...] = ()  #: what of it is left out, and why


class Repair(Struct, frozen=True, omit_defaults=True):
    """A plan, and what came of it."""

    tool: Tool
    created: str  #: ISO 8601, UTC
    target: Target | Unknown
    found: int  #: findings that count, before
    lines: tuple[Line, ...]
    held: tuple[Line, ...] = ()
    replayed: bool = False  #: planned from a file: nothing was predicted
    asked: tuple[str, ...] = ()  #: names of checks and fixes that the user gave; none: all
    apply_with: str = ""  #: the command that carries this plan out
    predicted_cleared: tuple[str, ...] = ()
    predicted_left: int = 0
    run: str = ""  #: what to undo it by; "" where nothing was changed
    undo_with: str = ""  #: the command that takes it back
    env_with: str = ""  #: the command whose output tells an open shell the new variables
    cleared: tuple[str, ...] = ()  #: as checked again afterwards
    left: int = 0
    surprises: tuple[str, ...] = ()  #: where that differs from what was predicted
    schema_version: int = SCHEMA_VERSION


def described(plan: Plan, report: Report, tool: Tool, prefix: str) -> Repair:
    """Return a plan as it is shown."""
    cleared = set(plan.cleared)
    lines = tuple(_line(n, change, prefix, cleared) for n, change in enumerate(plan.changes, 1))
    held = tuple(_line(len(lines) + n, change, prefix, set()) for n, change in enumerate(plan.held, 1))
    left = plan.found if plan.predicted is None else sum(1 for _ in plan.predicted.findings())
    return Repair(
        tool=tool,
        created=report.created,
        target=report.target,
        found=plan.found,
        lines=lines,
        held=held,
        replayed=plan.predicted is None,
        predicted_cleared=plan.cleared,
        predicted_left=left,
    )


def _line(number: int, change: Change, prefix: str, cleared: set[str]) -> Line:
    steps = change.steps or change.actions
    verb, what, detail = _in_words(change, prefix)
    return Line(
        number, verb, what, detail, change.fix, change.safety.value, change.checks,
        tuple(check for check in change.checks if check in cleared), change.refused,
        tuple(said(step, prefix) for step in steps), change.notes,
    )  # fmt: skip


def _in_words(change: Change, prefix: str) -> tuple[str, str, str]:
    actions: Sequence[Action] = change.actions
    first = actions[0] if actions else Show("")
    files = [step.path for step in change.steps if isinstance(step, WriteFile)]
    more = f"  (+ {len(actions) - 1} more)" if len(actions) > 1 else ""
    match first:
        case Export():
            what = _files(files, prefix) if files else "the activation files"
            names = [
                f"{'exports' if _is_set(a) else 'unsets'} {a.name}" for a in actions if isinstance(a, Export)
            ]
            return "write", what, _exporting(names)
        case MakeLink() | TurnLink() | RemoveLink():
            step = next((s for s in change.steps if isinstance(s, type(first))), first)
            verb = {MakeLink: "link", TurnLink: "turn", RemoveLink: "remove"}[type(first)]
            return verb, link(step, prefix) + more, ""
        case MoveAside():
            names = [posixpath.basename(a.path) for a in actions if isinstance(a, MoveAside)]
            shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
            return "move", f"{shown} aside", f"in {short(posixpath.dirname(first.path), prefix)}"
        case Install():
            argv = next((s.argv for s in change.steps if isinstance(s, Install) and s.argv), ())
            return "install", " ".join(first.packages), change.by_hand or shlex.join(argv)
        case Show():
            return "", first.text or change.fix, ""
    return "", change.fix, ""


def _is_set(export: Export) -> bool:
    return bool(export.value or export.add)


def _exporting(names: Sequence[str]) -> str:
    """Return "exports A, B; unsets C" of single phrases."""
    found: dict[str, list[str]] = {}
    for phrase in names:
        verb, _, name = phrase.partition(" ")
        found.setdefault(verb, []).append(name)
    return "; ".join(f"{verb} {', '.join(of)}" for verb, of in found.items())


def _files(paths: Sequence[str], prefix: str) -> str:
    """Return "etc/conda/activate.d/cudadoctor.sh  (+ .fish, .csh)": those in one folder by their endings."""
    first = paths[0]
    stem = first.removesuffix(".sh")
    more = [p.removeprefix(stem) for p in paths[1:] if p.startswith(stem)]
    return short(first, prefix) + (f"  (+ {', '.join(more)})" if more else "")


def titles(repair: Repair) -> Iterator[str]:
    """Yield one line of words for each line of a plan, for the journal."""
    for line in repair.lines:
        yield " ".join(filter(None, (line.verb, line.what, line.detail)))
