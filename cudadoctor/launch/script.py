"""Shell scripts: which line starts vLLM, and with what variables.

A script is gone through from its first line to its last. A condition whose variables are known decides its
branch. Of any other the branches are all gone through, each from the same beginning, and behind them only
what they agree in is known. The same goes for what stands behind `&&` and `||`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from msgspec import Struct

from cudadoctor.facts.launch import Launch
from cudadoctor.host import Host
from cudadoctor.launch.draft import Draft
from cudadoctor.launch.expansion import Scope, Value
from cudadoctor.launch.flow import Frame, State, fits, holds, merged, restore, snapshot
from cudadoctor.launch.shell import Part, Step, Token, steps
from cudadoctor.launch.texts import CALLERS, LaunchUnreadable, Word, beside, place, whole

if TYPE_CHECKING:
    from cudadoctor.launch.options import Options

_ASSIGNED = re.compile(r"([A-Za-z_]\w*)(\+?)=(.*)", re.DOTALL)
#: By the words that end a block: what it begins with.
_CLOSES = {"fi": ("if",), "done": ("while", "until", "for", "select"), "esac": ("case",), "}": ("{",)}
_LEADING = frozenset(
    ("if", "then", "else", "elif", "while", "until", "do", "!", "{", "}", "fi", "done", "time")
)
_READING = frozenset(("read", "mapfile", "readarray", "getopts"))
_NUMBERS = tuple("123456789")
_DECLARING = frozenset(("export", "declare", "typeset", "readonly", "local"))
_IGNORED = frozenset(("mkdir", "sleep", "trap", "which", "type"))
_CONDA = frozenset(("conda", "mamba", "micromamba"))
_MOST_COMMANDS = 5000
_MOST_STEPS = 20_000  #: commands that are gone through, as functions call each other
_DEEPEST = 8


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
    return read_shell(draft, text, path, None)


def read_shell(draft: Draft, text: str, origin: str, arguments: Sequence[Word] | None = ()) -> Launch:
    """Return the launch of vLLM in a shell's text; `origin`: its path, or where it stands.

    `arguments` are those that it is given, None where they are not known.
    """
    line = re.fullmatch(r"(.*):(\d+)", origin)
    source, first = (line[1], int(line[2])) if line else (origin, 1)
    shell = _Shell(draft, source, arguments)
    shell.run(steps(text, source, first))
    return shell.result()


class _Found(Struct, frozen=True):
    """A launch, and whether the script comes to it in any case."""

    launch: Launch
    certain: bool


class _Shell:
    def __init__(self, draft: Draft, source: str, arguments: Sequence[Word] | None) -> None:
        self.draft, self.source = draft, source
        self.scope = Scope(draft.inherited, draft.host.home(), source)
        self._positional(arguments)
        self.launches: list[_Found] = []
        self.functions: dict[str, tuple[str, list[Step]]] = {}
        self.called: set[str] = set()
        self.exports_all = self.ended = False
        self.status: bool | None = None  #: how the last command ended, where that is known
        self._frames = [Frame("text")]
        self._returns: list[list[State]] = []
        self._line = 1
        self._files = self._steps = 0

    def run(self, found: list[Step]) -> None:
        """Go through the commands of a text, each as often as it is called."""
        lines = [step.words[0].line for step in found if step.words]
        if len(lines) > _MOST_COMMANDS:
            line = lines[_MOST_COMMANDS]
            raise LaunchUnreadable(f"{self.source}:{line}: more than {_MOST_COMMANDS} commands")
        outer, at = len(self._frames), 0
        self._frames.append(Frame("text"))
        while at < len(found) and self._steps < _MOST_STEPS:
            self._steps += 1
            at = self._step(found, at)
        while len(self._frames) > outer:
            self._end_of_list()
            if len(self._frames) == outer + 1:
                self._frames.pop()
            else:
                self._close(self._frame.kind)

    def result(self) -> Launch:
        """Return the launch; of several, of which some only may be run, what they have in common."""
        if not self._starting():
            for name in [name for name in self.functions if name not in self.called]:
                self._call(name, None)
        found = self._starting()
        if not found:
            for note in (note for each in self.launches for note in each.launch.notes):
                if note.name in ("not-followed", "unreadable") and "vllm" in note.text.lower():
                    self.draft.note(note.text, note.origin, note.name)
            return self.draft.other([], f"no line of {self.source} starts vLLM")
        if len(found) == 1:
            return found[0].launch
        from cudadoctor.launch.several import common, first_of

        several = first_of if found[0].certain else common
        return several([each.launch for each in found], self.source)

    def _starting(self) -> list[_Found]:
        return [found for found in self.launches if found.launch.kind != "other"]

    # --- branches -------------------------------------------------------------------------------------------

    @property
    def _frame(self) -> Frame:
        return self._frames[-1]

    def _snapshot(self) -> State:
        return snapshot(self.scope, self.draft, self.exports_all, self.ended)

    def _restore(self, state: State) -> None:
        self.exports_all, self.ended = restore(state, self.scope, self.draft)

    def _meet(self, states: list[State]) -> None:
        self._restore(merged(states, self._line))

    def _step(self, found: list[Step], at: int) -> int:
        """Carry out one command, and return which one comes next."""
        step = found[at]
        if step.words:
            self._line = step.words[0].line
        self._operator(step.before)
        if self._frame.waits:
            self._see_pattern(step.words)
            return at + 1
        body = _function(found, at)
        if body is not None:
            name, steps, after = body
            self.functions[name] = (self.source, steps)
            self.status = True
            return after
        negated, tokens = self._keywords(step.words)
        if tokens and not self.ended:
            self.status = None
            self._command(step, tokens)
            if negated and self.status is not None:
                self.status = not self.status
        return at + 1

    def _operator(self, operator: str) -> None:
        """See what stands between two commands."""
        if operator in ("&&", "||"):
            self._join(operator)
        elif operator == "|":
            self.status = None
        elif operator == "(":
            if not self._frame.waits:
                self._frames.append(Frame("(", self._snapshot(), left=[]))
        else:
            self._end_of_list()
            if operator in (";;", ";&", ";;&") and self._frame.kind == "case":
                self._end_of_pattern(falls=operator != ";;")
            elif operator == ")" and self._frame.waits:
                self._pattern()
            elif operator == ")":
                self._close("(")

    def _join(self, operator: str) -> None:
        """See `&&` or `||`: whether what comes is run may not be known."""
        frame = self._frame
        if frame.skipped is not None:
            self._restore(frame.skipped)
            frame.skipped = None
        if frame.left and frame.joined != operator:
            self._meet([*frame.left, self._snapshot()])
            self.status = None
        frame.joined = operator
        if self.ended:
            return
        if self.status is None:
            frame.left.append(self._snapshot())
        elif self.status is not (operator == "&&"):
            frame.skipped = self._snapshot()
            self.ended = True

    def _end_of_list(self) -> None:
        frame = self._frame
        if frame.skipped is not None:
            self._restore(frame.skipped)
            frame.skipped = None
        if frame.left:
            self._meet([*frame.left, self._snapshot()])
            self.status, frame.left = None, []
        frame.joined = ""

    def _keywords(self, tokens: list[Token]) -> tuple[bool, list[Token]]:
        """Take the shell's own words off the front; return whether `!` is among them, and the rest."""
        negated = False
        while tokens:
            word = tokens[0].plain()
            if word in ("for", "select", "case"):
                self._loop(tokens)
                return False, []
            if word in ("if", "while", "until", "{"):
                self._frames.append(Frame(word, left=[], ends=[]))
            elif word in ("then", "do"):
                self._begin(word)
            elif word in ("else", "elif"):
                self._other(word)
            elif word in _CLOSES:
                self._close(*_CLOSES[word])
            elif word == "!":
                negated = not negated
            elif word not in ("in", "coproc"):
                break
            tokens = tokens[1:]
        return negated, tokens

    def _loop(self, tokens: list[Token]) -> None:
        """Open `for`, `select` or `case`."""
        frame = Frame(tokens[0].plain(), self._snapshot(), left=[], ends=[])
        self._frames.append(frame)
        name = tokens[1].plain() if len(tokens) > 1 else ""
        if frame.kind == "case":
            frame.waits, frame.decided = True, False
            frame.subject = self._quietly(tokens[1]) if len(tokens) > 1 else None
            self._see_pattern(tokens[3:])
        elif name.isidentifier():
            origin = place(self.source, tokens[0].line)
            self.scope.set(name, Value("", origin, f"{name} changes in the loop at line {tokens[0].line}"))

    def _begin(self, word: str) -> None:
        frame = self._frame
        if (frame.kind == "if") != (word == "then") or frame.kind in ("text", "(", "{", "case"):
            return
        frame.base = self._snapshot()
        frame.decided = {"if": self.status, "while": self.status}.get(frame.kind)
        frame.unsure = frame.unsure or frame.decided is None
        self.ended = self.ended or frame.decided is False

    def _other(self, word: str) -> None:
        frame = self._frame
        if frame.kind != "if" or frame.base is None:
            return
        frame.ends.append(self._snapshot())
        self._restore(frame.base)
        self.ended = self.ended or frame.decided is True
        frame.whole = word == "else"

    def _close(self, *kinds: str) -> None:
        """Leave a block: what is known behind it is what its ends agree in."""
        self._end_of_list()
        frame = self._frame
        if frame.kind not in kinds or len(self._frames) == 1:
            return
        self._frames.pop()
        if frame.kind == "(" and frame.base is not None:
            self._restore(frame.base)
        elif frame.kind not in ("(", "{", "text") and frame.base is not None:
            ends = [*frame.ends, *([] if frame.waits else [self._snapshot()])]
            if not frame.whole:
                frame.base.ended = frame.base.ended or (frame.kind == "if" and frame.decided is True)
                ends.append(frame.base)
            self._meet(ends)
        if frame.kind != "{":
            self.status = None

    # --- case -----------------------------------------------------------------------------------------------

    def _quietly(self, token: Token) -> Value:
        """Return what a word is worth where to ask for a variable is not to use it."""
        unset, self.scope.empty = self.scope.empty, {}
        value = self.scope.one(token)
        self.scope.empty = unset
        return value

    def _see_pattern(self, tokens: list[Token]) -> None:
        frame = self._frame
        if tokens and tokens[0].plain() == "esac":
            self._close("case")
            return
        for token in tokens:
            value = self._quietly(token)
            found = None if value.reason or frame.subject is None else fits(frame.subject, value.text)
            if found is not False and frame.decided is not True:
                frame.decided = found

    def _pattern(self) -> None:
        """Begin what is run where the pattern fits."""
        frame = self._frame
        if frame.base is not None:
            self._restore(frame.base)
        self.ended = self.ended or frame.matched is True or frame.decided is False
        frame.unsure = frame.matched is None or frame.decided is None
        if frame.decided is True:
            frame.matched = frame.whole = True
        elif frame.decided is None and frame.matched is False:
            frame.matched = None
        frame.waits, frame.decided = False, False

    def _end_of_pattern(self, falls: bool) -> None:
        frame = self._frame
        if frame.waits or frame.base is None:
            return
        frame.ends.append(self._snapshot())
        if falls and not self.ended:
            frame.matched, frame.whole = None, False
        self._restore(frame.base)
        frame.waits, frame.decided = True, False

    # --- commands -------------------------------------------------------------------------------------------

    def _command(self, step: Step, tokens: list[Token]) -> None:
        assigned, rest = _leading(tokens)
        if not rest:
            for token in assigned:
                self._assign(token, exported=self.exports_all)
            self.status = None if any(_runs(token) for token in assigned) else True
            return
        name = rest[0].plain()
        if name in ("test", "[", "[["):
            self.status = holds(self.scope, step, rest)
        elif name in ("exit", "return", "exec"):
            self._ends(name, assigned, rest)
        elif name in self.functions:
            self._call(name, [word for token in rest[1:] for word in self.scope.words(token)])
        elif name in _READING:
            self._reads(rest)
        elif not self._builtin(name, rest) and name not in _IGNORED:
            self._candidate(assigned, rest)

    def _builtin(self, name: str, rest: list[Token]) -> bool:
        """Carry out what changes the shell itself; return False for what is no such command."""
        if name in _DECLARING:
            self._declare(name, rest[1:])
        elif name == "unset":
            for token in rest[1:]:
                self.scope.unset(token.plain())
        elif name == "set":
            self._set(rest[1:])
        elif name == "shift":
            self._shift(rest[1].plain() if len(rest) > 1 else "1")
        elif name in ("source", ".") and len(rest) > 1:
            self._source(rest[1], rest[2] if len(rest) > 2 else None)
        elif name in _CONDA and len(rest) > 1 and rest[1].plain() == "activate":
            self.draft.activated = self._named(rest[2] if len(rest) > 2 else None)
        elif name in ("cd", "pushd") and len(rest) > 1:
            folder = self.scope.one(rest[-1])
            if not folder.reason:
                self.draft.into(folder.text)
        elif name not in ("true", "false", ":", "echo", "printf"):
            return False
        self.status = name != "false"
        return True

    def _ends(self, name: str, assigned: list[Token], rest: list[Token]) -> None:
        """See what ends the script or a function, with or without a program in its place."""
        if name == "exec" and len(rest) < 2:
            return  # its redirections alone count
        if name == "exec":
            self._candidate(assigned, rest)
        if name == "return" and not self._returns:
            return
        if name == "return":
            self._returns[-1].append(self._snapshot())
        self.ended = True

    def _call(self, name: str, arguments: Sequence[Word] | None) -> None:
        """Run a function of the script's own."""
        self.called.add(name)
        if len(self._returns) >= _DEEPEST:
            return
        outer, held = self.source, self._snapshot()
        self.source, steps = self.functions[name]
        self.scope.source = self.source
        self._positional(arguments)
        self._returns.append([])
        self.run(steps)
        if returns := self._returns.pop():
            self._meet([*returns, self._snapshot()])
        self.source = self.scope.source = outer
        for name in _NUMBERS:
            self.scope.values.pop(name, None)
            if name in held.values:
                self.scope.values[name] = held.values[name]
        self.scope.arrays["@"] = held.arrays["@"]

    def _positional(self, arguments: Sequence[Word] | None) -> None:
        """Set `$1` and all the others; None: they are not known."""
        for at, name in enumerate(_NUMBERS):
            self.scope.values.pop(name, None)
            if arguments is not None and at < len(arguments) and not any(w.many for w in arguments[: at + 1]):
                word = arguments[at]
                self.scope.values[name] = Value(word.text, word.origin, word.reason)
        unknown = Word("$@", place(self.source, getattr(self, "_line", 1)), CALLERS, many=True)
        self.scope.arrays["@"] = [unknown] if arguments is None else list(arguments)

    def _shift(self, count: str) -> None:
        """Take arguments off the front; how often a loop does it is not known."""
        held = self.scope.arrays["@"]
        loops = any(frame.kind in ("for", "while", "until", "select") for frame in self._frames)
        if any(word.many for word in held) or loops or not re.fullmatch(r"[0-9]{1,4}", count):
            self._positional(None)
        else:
            self._positional(held[int(count) :])

    def _reads(self, rest: list[Token]) -> None:
        """See `read NAME`, and others that set variables to what is not known."""
        for token in rest[1:]:
            name = token.plain()
            if name.isidentifier():
                origin = place(self.source, token.line)
                self.scope.set(name, Value(f"${name}", origin, f"{name} is known only when it runs"))
                if name in self.scope.exported:
                    self._export(name)

    def _assign(self, token: Token, exported: bool) -> str:
        """Carry out NAME=value, and return the name."""
        name, more, value_token = _parted(token)
        origin = place(self.source, token.line)
        if token.array is not None:
            elements = [word for each in token.array for word in self.scope.words(each)]
            held = self.scope.arrays.get(name, []) if more else []
            self.scope.unset(name)
            self.scope.arrays[name] = [*held, *elements]
            if len(self.scope.arrays[name]) > _MOST_COMMANDS:
                reason = f"{name} has more elements than any command has words"
                unknown = Word(f"${{{name}[@]}}", place(self.source, token.line), reason, many=True)
                self.scope.arrays[name] = [unknown]
            return name
        value = self.scope.one(value_token)
        before = self.scope.get(name) if more else None
        if before is not None:
            prefix = before.prefix if before.reason else before.text + value.prefix
            value = Value(before.text + value.text, origin, before.reason or value.reason, prefix)
        self.scope.set(name, Value(value.text, origin, value.reason, value.prefix))
        if exported or name in self.scope.exported:
            self._export(name)
        return name

    def _export(self, name: str) -> None:
        self.scope.exported.add(name)
        value = self.scope.values.get(name)
        if value is None:
            return
        if value.reason:
            self.draft.doubt(name, value.reason, value.origin)
        else:
            self.draft.assign(name, value.text, value.origin)

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
                self._positional(words[at + 1 :])
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
        self.run(steps(text, path))
        self.source = self.scope.source = outer

    def _relative(self, name: str) -> str:
        """Return a path as the script's folder is taken for the current one, where no other is known."""
        if self.draft.folder:
            return self.draft.path(name)
        return beside(self.source, name) if self.draft.host.kind(name) == "" else name

    def _candidate(self, assigned: list[Token], rest: list[Token]) -> None:
        """See whether a command starts vLLM."""
        from cudadoctor.launch.commands import follow, known

        used = dict(self.scope.empty)
        words = [word for token in rest for word in self.scope.words(token)]
        if not words or not (known(words[0].text) or "/" in words[0].text):
            self.scope.empty = used
            return
        draft = self.draft.copied()
        for token in assigned:
            name, _, value_token = _parted(token)
            value = self.scope.one(value_token)
            origin = place(self.source, token.line)
            if value.reason:
                draft.doubt(name, value.reason, origin)
            else:
                draft.assign(name, value.text, origin)
        for name, origin in self.scope.empty.items():
            draft.note(f"{name} is not set: nothing takes its place", origin, "variable-empty")
        for word in words:
            if word.reason not in ("", CALLERS):
                draft.note(word.reason, word.origin, "value-unknown")
        unsure = any(frame.unsure or frame.left for frame in self._frames)
        self.launches.append(_Found(follow(draft, words), not unsure))


def _runs(token: Token) -> bool:
    """Return whether a command stands in an assignment, whose end becomes that of the assignment."""
    return any(part.kind == "unknown" for part in token.parts)


def _function(found: list[Step], at: int) -> tuple[str, list[Step], int] | None:
    """Return name and commands of a function whose definition begins here, and where the text goes on."""
    words = found[at].words
    keyword = len(words) > 1 and words[0].plain() == "function"
    name = words[keyword].plain() if words and (keyword or len(words) == 1) else ""
    begin, skip = at, 2
    if words[2:3] == [] or not keyword:
        brackets = [(step.before, bool(step.words)) for step in found[at + 1 : at + 3]]
        if len(brackets) == 2 and brackets[0] == ("(", False) and brackets[1][0] == ")":
            begin, skip = at + 2, 0
        elif keyword:
            begin, skip = at + 1, 0
        else:
            return None
        while begin < len(found) and not found[begin].words:
            begin += 1
    if not name or begin >= len(found) or [t.plain() for t in found[begin].words[skip : skip + 1]] != ["{"]:
        return None
    first = Step("", found[begin].words[skip + 1 :], found[begin].redirected)
    depth, body = 1, [first]
    for end in range(begin, len(found)):
        step = first if end == begin else found[end]
        for token in step.words:
            word = token.plain()
            depth += (word == "{") - (word == "}")
            if not depth:
                return name, body, end + 1
            if word not in _LEADING:
                break
        if end > begin:
            body.append(step)
    return None


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
