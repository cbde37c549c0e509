"""Steps in a few words: what one does, and what taking it back did."""

from __future__ import annotations

import shlex

from cudadoctor.actions import (
    Action,
    Export,
    Install,
    MakeFolder,
    MakeLink,
    MoveAside,
    RemoveLink,
    Show,
    Step,
    TurnLink,
    WriteFile,
)


def said(action: Action, prefix: str = "") -> str:
    """Return what an action does: "link lib64 -> lib"; paths in `prefix` are told without it."""
    match action:
        case MakeFolder():
            return f"make folder {short(action.path, prefix)}"
        case MakeLink() | TurnLink() | RemoveLink():
            verb = {MakeLink: "link", TurnLink: "turn", RemoveLink: "remove"}[type(action)]
            now = f" (now: {action.before})" if isinstance(action, TurnLink) else ""
            return f"{verb} {link(action, prefix)}{now}"
        case WriteFile():
            return f"{'change' if action.before else 'write'} {short(action.path, prefix)}"
        case MoveAside():
            to = f", to {action.aside}" if action.aside else ""
            return f"move {short(action.path, prefix)} aside{to}"
        case Install():
            wanted = f"install {' '.join(action.packages)} with {action.tool}"
            return shlex.join(action.argv) if action.argv else wanted
        case Export():
            return _exported(action)
        case Show():
            return action.text
    raise AssertionError(action)


def _exported(export: Export) -> str:
    if not export.is_list:
        how = f"set {export.name}={export.value}" if export.value else f"unset {export.name}"
        return f"{how}, on activation"
    entries = [f"add {entry}" for entry in export.add] + [f"take out {entry}" for entry in export.remove]
    return f"{export.name}, on activation: {', '.join(entries)}"


def taken_back(step: Step, prefix: str) -> str:
    """Return what taking a step back did; paths in `prefix` are told without it."""
    match step:
        case MakeFolder():
            return f"removed folder {short(step.path, prefix)}"
        case MakeLink():
            return f"removed {link(step, prefix)}"
        case TurnLink():
            return f"restored {short(step.path, prefix)} -> {step.before}"
        case RemoveLink():
            return f"restored {link(step, prefix)}"
        case WriteFile():
            return f"{'restored' if step.before else 'removed'} {short(step.path, prefix)}"
        case MoveAside():
            return f"moved {short(step.path, prefix)} back"
        case Install():
            return f"restored the packages as they were before {' '.join(step.packages)}"
    raise AssertionError(step)


def link(action: MakeLink | TurnLink | RemoveLink, prefix: str) -> str:
    """Return a link and its text: "lib64 -> lib"; of one that goes the text that it has."""
    text = action.before if isinstance(action, RemoveLink) else action.text
    return f"{short(action.path, prefix)} -> {text}"


def short(path: str, prefix: str) -> str:
    """Return a path as it is in `prefix`, whole where it is elsewhere or `prefix` is ""."""
    return path.removeprefix(f"{prefix}/") if prefix else path
