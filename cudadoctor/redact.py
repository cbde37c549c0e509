"""The one point that everything printed or written passes: secrets and personal paths are masked here.

Replacements are the same everywhere in a report, so that two paths that were equal stay equal and a
redacted report is judged like the original.
"""

from __future__ import annotations

import re
from typing import TypeVar

import msgspec

from cudadoctor.facts import Facts, Machine
from cudadoctor.report import Report, encode

HOME = "/home/user"
USER = "user"
SECRET = "[secret]"

_SECRETS = re.compile(
    r"""
    (?P<scheme>[a-z][a-z0-9+.-]{1,20}://)[^/\s"'@:]*:[^/\s"'@]+@                 # URL with a password
    | (?P<token>\b(?:hf_|ghp_|gho_|ghs_|ghu_|github_pat_|glpat-|sk-|nvapi-|xox[abprs]-|npm_|pypi-)[A-Za-z0-9_-]{12,})
    | (?P<aws>\b(?:AKIA|ASIA)[A-Z0-9]{16}\b)
    | (?P<jwt>\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]+)
    | (?P<bearer>\b[Bb]earer\s+)[A-Za-z0-9._~+/=-]{12,}
    | (?P<name>\b[A-Za-z0-9_]*(?:TOKEN|SECRET|PASSWORD|PASSWD|API_?KEY|ACCESS_?KEY|CREDENTIALS?)[A-Za-z0-9_]*\s*=\s*)[^\s"',;&\\]+
    """,
    re.VERBOSE | re.IGNORECASE,
)
_MARKS = ("://", "_", "-", "AKIA", "ASIA", "eyJ", "earer", "=")
#: Folders that belong to the system: a user whose name is also a word there ("cuda") is not looked for.
_SYSTEM = r"(?<![\w.-])/(?:usr|opt|lib|lib64|etc|bin|sbin|proc|sys|dev|var|run|nix|snap)(?:/[^\s\"':]*)?"
_IMPERSONAL = frozenset(["root", "user", "ubuntu", "debian", "ec2-user", "admin", "jovyan", "vscode", "runner", "app"])

T = TypeVar("T", Report, Facts)


class Redactor:
    """Masks one user's home folder and name, and anything that looks like a secret."""

    def __init__(self, home: str) -> None:
        user = home.rstrip("/").rpartition("/")[2]
        self._home = home.rstrip("/")
        personal = bool(self._home) and self._home != HOME and user not in _IMPERSONAL and len(user) > 1
        self._paths = self._pattern(user) if personal else None

    def _pattern(self, user: str) -> re.Pattern[str]:
        home, name = re.escape(self._home), re.escape(user)
        return re.compile(
            rf"(?P<home>{home})(?![\w.-])|(?P<system>{_SYSTEM})|(?<=/){name}(?![\w.-])"
        )

    def text(self, text: str) -> str:
        """Return `text` with home folder, user name and secrets masked."""
        if self._paths is not None:
            text = self._paths.sub(self._path, text)
        return _SECRETS.sub(_secret, text)

    def _path(self, match: re.Match[str]) -> str:
        if match["home"]:
            return HOME
        return match["system"] or USER

    def value(self, value: T) -> T:
        """Return a report or facts with every string in it masked."""
        before = encode(value).decode()
        after = self.text(before)
        return msgspec.json.decode(after, type=type(value)) if after != before or not _clean(value) else value


def _clean(value: Report | Facts) -> bool:
    """Return whether the value itself can be encoded: no file name in it that is no UTF-8."""
    try:
        msgspec.json.encode(value)
    except UnicodeEncodeError:
        return False
    return True


def _secret(match: re.Match[str]) -> str:
    kept = match["scheme"] or match["bearer"] or match["name"] or ""
    return f"{kept}{SECRET}@" if match["scheme"] else f"{kept}{SECRET}"


def for_facts(facts: Facts, home: str = "") -> Redactor:
    """Return the redactor for what these facts were seen by."""
    return Redactor(home or (facts.machine.home if isinstance(facts.machine, Machine) else ""))
