"""Settings from `cudadoctor.toml`, or from `[tool.cudadoctor]` in pyproject.toml.

    fail-on = "warning"
    ignore = ["build-memory-short"]
    [suppress]
    cuda-home-wrong = "this image never compiles"

The file is looked for in the current folder and those above it. A suppressed finding stays in the report,
with the reason, and does not count; without a reason nothing can be suppressed.
"""

from __future__ import annotations

import os

import msgspec

from cudadoctor.mistakes import UserMistake, nearest
from cudadoctor.registry import Registry

FILE = "cudadoctor.toml"
_LIMIT_BYTES = 1 << 20
_LONGEST = 300  #: characters of a reason, which may quote the file
_MOST_PARTS = 50
#: The start of a key of more parts: tomllib's time and memory grow with the square of their number.
_ENDLESS_KEY = rb"""(?:^|[\s{,\[])(?:(?:"[^"\n]*"|'[^'\n]*'|[\w-]+)[ \t]*\.[ \t]*){%d}""" % _MOST_PARTS
LEVELS = ("error", "warning", "note", "never")


class Config(msgspec.Struct, frozen=True, rename="kebab", forbid_unknown_fields=True):
    """What a configuration file may set."""

    fail_on: str = "error"
    ignore: tuple[str, ...] = ()
    suppress: dict[str, str] = {}


def load_config(named: str, none: bool, registry: Registry) -> Config:
    """Return the settings; a file that cannot be used is the user's mistake."""
    path = "" if none else named or _find()
    if not path:
        return Config()
    try:
        table = _table(path)
        config = msgspec.convert(table, Config)
    except (OSError, ValueError, msgspec.ValidationError) as error:
        reason = str(getattr(error, "strerror", None) or error)
        raise UserMistake(
            f"{path}: {reason if len(reason) <= _LONGEST else f'{reason[:_LONGEST]} ...'}"
        ) from None
    except RecursionError:
        raise UserMistake(f"{path}: its values are nested too deeply") from None
    _validate(path, config, registry)
    return config


def _find() -> str:
    try:
        folder = os.getcwd()
    except OSError:
        return ""
    while True:
        if os.path.isfile(f"{folder}/{FILE}"):
            return f"{folder}/{FILE}"
        if _mentions(f"{folder}/pyproject.toml"):
            return f"{folder}/pyproject.toml"
        parent = os.path.dirname(folder)
        if parent == folder:
            return ""
        folder = parent


def _mentions(path: str) -> bool:
    """Return whether a pyproject.toml has a table of ours, without paying for a TOML parser."""
    if not os.path.isfile(path):
        return False
    try:
        with open(path, "rb") as stream:
            return b"[tool.cudadoctor" in stream.read(1 << 20)
    except OSError:
        return False


def _table(path: str) -> object:
    import re
    import sys

    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    if not os.path.isfile(path):
        raise OSError(2, "not a file" if os.path.exists(path) else "no such file")
    with open(path, "rb") as stream:
        data = stream.read(_LIMIT_BYTES + 1)
    if len(data) > _LIMIT_BYTES:
        raise ValueError(f"larger than {_LIMIT_BYTES >> 20} MiB")
    if re.search(_ENDLESS_KEY, data):
        raise ValueError(f"a key of more than {_MOST_PARTS} parts")
    table = tomllib.loads(data.decode())
    if os.path.basename(path) == "pyproject.toml":
        tool = table.get("tool", {})
        return tool.get("cudadoctor", {}) if isinstance(tool, dict) else {}
    return table


def _validate(path: str, config: Config, registry: Registry) -> None:
    if config.fail_on not in LEVELS:
        raise UserMistake(f"{path}: fail-on must be one of {', '.join(LEVELS)}, not {config.fail_on!r}")
    known = registry.names
    for name in (*config.ignore, *config.suppress):
        if name not in known:
            raise UserMistake(f"{path}: no check is called {name!r}{nearest(name, known)}")
    for name, reason in config.suppress.items():
        if not reason.strip():
            raise UserMistake(f"{path}: suppress.{name} needs a reason")
