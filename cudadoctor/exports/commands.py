"""Exports as text: commands for a shell's `eval`, a .env file, or JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping

from cudadoctor.actions import Export
from cudadoctor.exports.model import outcome


class Unwritable(ValueError):
    """The form that was asked for cannot hold the value."""


def commands(exports: Iterable[Export], variables: Mapping[str, str], prefix: str, shell: str) -> str:
    """Return the text that brings `variables` to what they are after these exports; "" or {} where they are.

    `shell` is one of SHELLS. Raises Unwritable, with the variable's name, where that form has no way to say
    a value.
    """
    after = outcome(exports, variables, prefix)
    changed = {name: value for name, value in after.items() if value != variables.get(name)}
    return SHELLS[shell](changed) if changed or shell == "json" else ""


def single_quoted(value: str) -> str:
    """Return a value as a literal of a POSIX shell."""
    return "'" + value.replace("'", "'\\''") + "'"


def fish_quoted(value: str) -> str:
    """Return a value as a literal of fish, where a backslash counts inside quotes too."""
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _posix(changed: Mapping[str, str | None]) -> str:
    return "".join(
        f"unset {name}\n" if value is None else f"export {name}={single_quoted(value)}\n"
        for name, value in changed.items()
    )


def _fish(changed: Mapping[str, str | None]) -> str:
    # `-g` too where it is erased: a universal variable is the user's own, in every shell and for good.
    return "".join(
        f"set -eg {name};\n" if value is None else f"set -gx {name} {fish_quoted(value)};\n"
        for name, value in changed.items()
    )


def _csh(changed: Mapping[str, str | None]) -> str:
    lines = []
    for name, value in changed.items():
        if value is not None and "\n" in value:
            raise Unwritable(f"{name}: csh cannot set a value with a line break")
        # A history reference is looked for inside quotes too.
        quoted = "" if value is None else single_quoted(value).replace("!", "\\!")
        lines.append(f"unsetenv {name};\n" if value is None else f"setenv {name} {quoted};\n")
    return "".join(lines)


# Read by Docker Compose (compose-spec/compose-go, dotenv/parser.go) and python-dotenv 1.2.4 (parser.py), both
# read 2026-11-21. They take alike: a bare value without anything special; single quotes where no backslash
# stands before a quote, a backslash or the end; double quotes with nothing to escape in them. python-dotenv
# expands ${NAME} in single quotes too, and older Compose loses quotes at the end of a value.
_BARE = re.compile(r"[\w./:@%+,=~^-]*", re.ASCII)
_NOT_SINGLE = re.compile(r"""['\r\n]|\\\\|\\$|\$\{""")
_NOT_DOUBLE = re.compile(r"""["$\\`\r\n]""")


def _dotenv(changed: Mapping[str, str | None]) -> str:
    return "".join(f"{name}={_dotenv_value(name, value or '')}\n" for name, value in changed.items())


def _dotenv_value(name: str, value: str) -> str:
    if _BARE.fullmatch(value):
        return value
    if not _NOT_SINGLE.search(value):
        return f"'{value}'"
    if not _NOT_DOUBLE.search(value):
        return f'"{value}"'
    raise Unwritable(f"{name}: the readers of .env files disagree on a value such as {value!r}")


def _json(changed: Mapping[str, str | None]) -> str:
    return json.dumps(changed, indent=2) + "\n"


#: How each form is written.
SHELLS: Mapping[str, Callable[[Mapping[str, str | None]], str]] = {
    "bash": _posix,
    "zsh": _posix,
    "fish": _fish,
    "csh": _csh,
    "dotenv": _dotenv,
    "json": _json,
}
