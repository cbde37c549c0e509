"""Shell scripts: which line starts vLLM, and with what variables.

A script is gone through from its first line to its last as if every branch were taken. What is set in a
branch counts only where it was not set before: else it is not known, and said so.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from cudadoctor.facts.launch import Launch
from cudadoctor.host import Host
from cudadoctor.launch.draft import Draft
from cudadoctor.launch.expansion import Scope, Value
from cudadoctor.launch.shell import Part, Token, commands
from cudadoctor.launch.texts import LaunchUnreadable, Word, beside, place, whole

if TYPE_CHECKING:
    from cudadoctor.launch.options import Options

_ASSIGNED = re.compile(r"([A-Za-z_]\w*)(\+?)=(.*)", re.DOTALL)
_OPENS = frozenset(("if", "while", "until", "for", "case", "select"))
_CLOSES = frozenset(("fi", "done", "esac"))
_WORDS = frozenset(("then", "else", "elif", "do", "!", "{", "}", "in", "coproc"))
_DECLARING = frozenset(("export", "declare", "typeset", "readonly", "local"))
_IGNORED = frozenset(
    ("echo", "printf", "test", "[", "[[", "mkdir", "exit", "return", "sleep", "trap", "which", "type")
)
_CONDA = frozenset(("conda", "mamba", "micromamba"))
_MOST_COMMANDS = 5000


def read(host: Host, path: str, options: Options | None = None) -> Launch:
    """Return the launch that a script makes: a Python program by its name or first line, else a shell's.

    Raises LaunchUnreadable for a file that cannot be read and for quotes that are never closed.
    """
    from cudadoctor.launch.python_source import read_python

    text = whole(host, path)
    draft = Draft(host, path, options)
    first = text.partition("\n")[0]
    if path.endswith(".py") or (first.startswith("#!") and "python" in first):
        return read_python(draft, text, path)
    return read_shell(draft, text, path)


def read_shell(draft: Draft, text: str, origin: str, arguments: Sequence[Word] = ()) -> Launch:
    """Return the first launch of vLLM in a shell's text; `origin`: its path, or where it stands."""
    line = re.fullmatch(r"(.*):(\d+)", origin)
    source, first = (line[1], int(line[2])) if line else (origin, 1)
    shell = _Shell(draft, source, arguments)
    shell.run(commands(text, source, first))
    return shell.result()


class _Shell:
    def __init__(self, draft: Draft, source: str, arguments: Sequence[Word]) -> None:
        self.draft, self.source = draft, source
        self.scope = Scope(draft.inherited, draft.host.home(), source)
        self.scope.arrays["@"] = list(arguments)
        for at, word in enumerate(arguments[:9], 1):
            self.scope.values[str(at)] = Value(word.text, word.origin, word.reason)
        self.launches: list[Launch] = []
        self.exports_all = False
        self._branches: list[str] = []
        self._files = 0

    def run(self, found: list[list[Token]]) -> None:
        if len(found) > _MOST_COMMANDS:
            line = found[_MOST_COMMANDS][0].line
            raise LaunchUnreadable(f"{self.source}:{line}: more than {_MOST_COMMANDS} commands")
        for tokens in found:
            self._command(tokens)

    def result(self) -> Launch:
        vllm = [launch for launch in self.launches if launch.kind != "other"]
        if not vllm:
            return self.draft.other([], f"no line of {self.source} starts vLLM")
        if len(vllm) > 1:
            from msgspec import structs

            from cudadoctor.facts.launch import Note

            more = Note(f"{len(vllm)} lines start vLLM: the first is read", self.source, "several-launches")
            return structs.replace(vllm[0], notes=(*vllm[0].notes, more))
        return vllm[0]

    def _command(self, tokens: list[Token]) -> None:
        tokens = self._keywords(tokens)
        assigned, rest = _leading(tokens)
        if not rest:
            for token in assigned:
                self._assign(token, exported=self.exports_all)
            return
        name = rest[0].plain()
        if name in _DECLARING:
            self._declare(name, rest[1:])
        elif name == "unset":
            for token in rest[1:]:
                self.scope.unset(token.plain())
        elif name == "set":
            self._set(rest[1:])
        elif name in ("source", ".") and len(rest) > 1:
            self._source(rest[1], rest[2] if len(rest) > 2 else None)
        elif name in _CONDA and len(rest) > 1 and rest[1].plain() == "activate":
            self.draft.activated = self._named(rest[2] if len(rest) > 2 else None)
        elif name in ("cd", "pushd") and len(rest) > 1:
            folder = self.scope.one(rest[-1])
            if not folder.reason:
                self.draft.into(folder.text)
        elif name not in _IGNORED:
            self._candidate(assigned, rest)

    def _keywords(self, tokens: list[Token]) -> list[Token]:
        """Take the shell's own words off the front, and note where a branch begins and ends."""
        while tokens:
            word = tokens[0].plain()
            if word in _OPENS:
                self._branches.append(word)
                if word in ("for", "select", "case"):
                    self._loop(tokens)
                    return []
            elif word in _CLOSES:
                if self._branches:
                    self._branches.pop()
            elif word == "function":
                return []
            elif word not in _WORDS:
                break
            tokens = tokens[1:]
        return tokens

    def _loop(self, tokens: list[Token]) -> None:
        name = tokens[1].plain() if len(tokens) > 1 else ""
        if tokens[0].plain() != "case" and name.isidentifier():
            origin = place(self.source, tokens[0].line)
            self.scope.set(name, Value("", origin, f"{name} changes in the loop at line {tokens[0].line}"))

    def _assign(self, token: Token, exported: bool) -> str:
        """Carry out NAME=value, and return the name."""
        name, more, value_token = _parted(token)
        origin = place(self.source, token.line)
        if token.array is not None:
            elements = [word for each in token.array for word in self.scope.words(each)]
            held = self.scope.arrays.get(name, []) if more else []
            self.scope.unset(name)
            self.scope.arrays[name] = [*held, *elements]
            return name
        value = self.scope.one(value_token)
        before = self.scope.get(name)
        if more and before is not None:
            value = Value(before.text + value.text, origin, before.reason or value.reason)
        if self._branches and before is not None and before.text != value.text:
            reason = f"{name} is set in a branch, at line {token.line}"
            value = Value(before.text, origin, before.reason or reason)
        self.scope.set(name, Value(value.text, origin, value.reason))
        if exported or name in self.scope.exported:
            self._export(name)
        return name

    def _export(self, name: str) -> None:
        self.scope.exported.add(name)
        value = self.scope.values.get(name)
        if value is not None:
            self.draft.assign(name, value.text, value.origin)
            if value.reason:
                self.draft.note(value.reason, value.origin, "value-unknown")

    def _declare(self, name: str, tokens: list[Token]) -> None:
        exported = name == "export" or self.exports_all
        for token in tokens:
            word = token.plain()
            if word.startswith("-"):
                exported = exported or (name in ("declare", "typeset") and "x" in word)
            elif _ASSIGNED.match(_text_before(token)):
                self._assign(token, exported)
            elif exported and word:
                self._export(word)

    def _set(self, tokens: list[Token]) -> None:
        """See `set -a`, after which every assignment is exported, and `set --`."""
        words = [word for token in tokens for word in self.scope.words(token)]
        texts = [word.text for word in words]
        for at, text in enumerate(texts):
            if text == "--":
                self.scope.arrays["@"] = words[at + 1 :]
                return
            if re.fullmatch(r"[-+][a-zA-Z]*a[a-zA-Z]*", text) or (text == "allexport" and at):
                self.exports_all = (texts[at - 1] if text == "allexport" else text).startswith("-")

    def _named(self, token: Token | None) -> str:
        """Return the environment that conda is told to activate, "" where that is not known."""
        named = self.scope.one(token) if token is not None else None
        return "base" if named is None else "" if named.reason else named.text

    def _activate(self, script: str, token: Token | None) -> None:
        """See `source PREFIX/bin/activate`, a venv's own, or conda's with a name behind it."""
        prefix = script.removesuffix("/bin/activate")
        conda = self.draft.host.kind(f"{prefix}/conda-meta") == "directory"
        self.draft.activated = self._named(token) if conda and token is not None else prefix

    def _source(self, token: Token, argument: Token | None = None) -> None:
        """Follow a file of assignments; anything else but an activation is noted."""
        value = self.scope.one(token)
        origin = place(self.source, token.line)
        path = value.text if value.text.startswith("/") else self._relative(value.text)
        if path.endswith("/bin/activate") and not value.reason:
            self._activate(path, argument)
            return
        self._files += 1
        if value.reason or not re.search(r"(^|[/.])env(\.\w+)?$|\.env\b", value.text) or self._files > 8:
            if not value.text.endswith(("activate", ".bashrc", "conda.sh", ".profile")):
                self.draft.note(
                    f"{value.text or 'a file'} is sourced, and not followed", origin, "not-followed"
                )
            return
        try:
            text = whole(self.draft.host, path)
        except LaunchUnreadable as error:
            self.draft.note(f"it sources a file that cannot be read: {error}", origin, "not-followed")
            return
        outer, self.source = self.source, path
        self.scope.source = path
        self.run(commands(text, path))
        self.source = self.scope.source = outer

    def _relative(self, name: str) -> str:
        """Return a path as the script's folder is taken for the current one, where no other is known."""
        if self.draft.folder:
            return self.draft.path(name)
        return beside(self.source, name) if self.draft.host.kind(name) == "" else name

    def _candidate(self, assigned: list[Token], rest: list[Token]) -> None:
        """See whether a command starts vLLM."""
        from cudadoctor.launch.commands import follow, known

        words = [word for token in rest for word in self.scope.words(token)]
        if not words or not (known(words[0].text) or "/" in words[0].text):
            return
        draft = self.draft.copied()
        for token in assigned:
            name, _, value_token = _parted(token)
            value = self.scope.one(value_token)
            draft.assign(name, value.text, place(self.source, token.line))
        for name, origin in self.scope.empty.items():
            draft.note(f"{name} is not set: nothing takes its place", origin, "variable-empty")
        for word in words:
            if word.reason:
                draft.note(word.reason, word.origin, "value-unknown")
        self.launches.append(follow(draft, words))


def _leading(tokens: list[Token]) -> tuple[list[Token], list[Token]]:
    """Return the assignments at the front of a command, and the rest."""
    at = 0
    while at < len(tokens) and _ASSIGNED.match(_text_before(tokens[at])):
        at += 1
    return tokens[:at], tokens[at:]


def _text_before(token: Token) -> str:
    """Return the unquoted text that a word begins with."""
    first = token.parts[0] if token.parts else None
    return first.text if first is not None and first.kind == "text" and not first.quoted else ""


def _parted(token: Token) -> tuple[str, str, Token]:
    """Return name, "+" and value of an assignment."""
    match = _ASSIGNED.match(_text_before(token))
    assert match is not None
    rest = (Part(match[3]), *token.parts[1:]) if match[3] else token.parts[1:]
    return match[1], match[2], Token(token.line, rest)
