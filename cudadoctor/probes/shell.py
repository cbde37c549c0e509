"""What a shell would make of the plain lines of an activation script. Nothing is executed."""

from __future__ import annotations

import re
from collections.abc import Callable

from cudadoctor.facts import Variable
from cudadoctor.host import Host

_WORD = r"""(?:"[^"`\\]*"|'[^']*'|\$\{[^\s{}"'`\\]*\}|[^\s;&|"'`\\()<>{}])*"""
_SET = rf"[A-Za-z_]\w*={_WORD}"
_END = r"\s*(?:;\s*)?(?:(?<=[\s;])#.*)?"
_PLAIN = re.compile(rf"(?:(export)((?:\s+(?:{_SET}|[A-Za-z_]\w*))+)|({_SET}(?:\s+{_SET})*)){_END}")
_ASSIGNMENT = re.compile(rf"([A-Za-z_]\w*)(?:(=)({_WORD}))?(?=\s|$)")
_UNSET = re.compile(rf"unset((?:\s+[A-Za-z_]\w*)+){_END}")
_OPENS = re.compile(r"(?:^|[;&|(]\s*|\b(?:then|else|do)\s+)(?:if|for|while|until|case|select)\b|\{$")
_CLOSES = re.compile(r"(?:^|[;&|]\s*)(?:fi|done|esac|\})(?=$|[\s;&|)])")
_TOUCHED = re.compile(r"([A-Za-z_]\w*)\+?=|\b(?:read|for|unset|export)\s+([A-Za-z_]\w*)")
_PIECE = re.compile(r""""([^"]*)"|'([^']*)'|([^"']+)""")
_REFERENCE = re.compile(r"\$(?:([A-Za-z_]\w*)|\{([A-Za-z_]\w*)(?:(:?[-+])((?:[^{}]|\$\{[^{}]*\})*))?\}|)")
_RETURNS = re.compile(r"(?:^|[;&|]\s*|\b(?:then|else|do)\s+)(?:return|exit)\b")
_LINE_LIMIT = 8192


def apply_script(host: Host, file: str, shell: Shell) -> None:
    """Apply a script's plain lines: `export NAME=value` and the like, with no condition over them.

    What rests on anything else (a command's output, a variable set under a condition) is left as it was.
    """
    try:
        text = host.read(file, 1 << 20).decode("utf-8", "surrogateescape")
    except OSError:
        return
    depth = braces = 0
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.strip()
        if not line or line.startswith("#") or len(line) > _LINE_LIMIT:
            continue
        if depth or not shell.take(line, f"{file}:{number}"):
            shell.unknown.update(name for names in _TOUCHED.findall(line) for name in names)
            depth = max(0, depth + len(_OPENS.findall(line)) - len(_CLOSES.findall(line)))
            braces = max(0, braces + line.endswith("{") - line.startswith("}"))
            if not braces and _RETURNS.search(line):
                return  # outside a function: all that follows hangs on the condition over it


class Shell:
    """A shell's variables, as far as plain lines tell; those that `matter` are kept when they are exported.

    `unknown` are the names that other lines touch.
    """

    def __init__(self, host: Host, variables: dict[str, Variable], matters: Callable[[str], bool]) -> None:
        self.host, self.variables, self.matters = host, variables, matters
        self.values: dict[str, str | None] = {}
        self.unknown = {"CONDA_DEFAULT_ENV", "CONDA_SHLVL", "CONDA_PROMPT_MODIFIER"}

    def take(self, line: str, origin: str) -> bool:
        """Apply a plain line; return whether it is one."""
        if match := _UNSET.fullmatch(line):
            for name in match[1].split():
                self.unset(name)
        elif match := _PLAIN.fullmatch(line):
            for name, given, word in _ASSIGNMENT.findall(match[2] or match[3]):
                if given or name in self.unknown or self.get(name) is not None:
                    value = self.word(word) if given else self.expand(f"${name}")
                    self.assign(name, value, bool(match[1]), origin)
        return match is not None

    def put(self, name: str, value: str | None, origin: str) -> None:
        """Export a variable, or with None unset it."""
        if value is None:
            self.unset(name)
        else:
            self.assign(name, value, True, origin)

    def unset(self, name: str) -> None:
        """Unset a variable."""
        self.values[name] = None
        self.variables.pop(name, None)
        self.unknown.discard(name)

    def assign(self, name: str, value: str | None, exported: bool, origin: str) -> None:
        """Set a variable, or with None note that it cannot be told."""
        if value is None:
            self.unknown.add(name)
            return
        self.unknown.discard(name)
        self.values[name] = value
        # A variable that is exported already stays so, whichever way it is set.
        if (exported or name in self.host.environ) and self.matters(name):
            self.variables[name] = Variable(value, origin)

    def word(self, text: str) -> str | None:
        """Return what a word with quotes stands for; None where it needs a shell to know."""
        parts: list[str | None] = []
        for double, single, bare in _PIECE.findall(text):
            home = bare.startswith("~") or ":~" in bare
            parts.append(single or (None if home else self.expand(double or bare)))
        return None if None in parts else "".join(part for part in parts if part)

    def expand(self, text: str) -> str | None:
        """Expand plain references; None where one is not plain, or names what cannot be told."""
        told = True

        def value(match: re.Match[str]) -> str:
            nonlocal told
            name, form, other = match[1] or match[2], match[3], match[4]
            if not name or name in self.unknown:
                told = False
                return ""
            known = self.get(name)
            there = known is not None and (known != "" or form in ("-", "+"))
            if not form or (there and form.endswith("-")):
                return known or ""
            taken = self.expand(other) if there == form.endswith("+") else ""
            told = told and taken is not None
            return taken or ""

        expanded = _REFERENCE.sub(value, text)
        return expanded if told else None

    def get(self, name: str) -> str | None:
        """Return a variable's value, or None where it is not set."""
        if name in self.values:
            return self.values[name]
        return self.variables[name].value if name in self.variables else self.host.environ.get(name)
