"""A shell's text as commands: words with their quotes and expansions, nothing of it executed.

What is understood is what launch scripts are made of: quotes, continuations, comments, here-documents,
arrays, assignments. The words of a test or of a loop are commands like any other to this reader.
"""

from __future__ import annotations

import re
from typing import Literal

from msgspec import Struct

from cudadoctor.launch.texts import LaunchUnreadable, place

_NAME = re.compile(r"[A-Za-z_]\w*|[0-9@*#?$!-]")
_ARRAY = re.compile(r"[A-Za-z_]\w*\+?=$")
_OPERATORS = ("<<<", "<<-", "&>>", ";;&", "&&", "||", ";;", ";&", "<<", ">>", ">&", "<&", "&>", ">|", "<>")
_SINGLE = ";&|<>()\n"
_REDIRECTIONS = frozenset(("<", ">", ">>", "<<<", ">&", "<&", "&>", "&>>", ">|", "<>", "<<", "<<-"))
_JOINING = frozenset(("&&", "||", "|"))
_DEEPEST = 40


class Part(Struct, frozen=True, omit_defaults=True):
    """A piece of a word: plain text, the inside of `${...}`, or what only running can tell."""

    text: str
    kind: Literal["text", "variable", "unknown"] = "text"
    quoted: bool = False


class Token(Struct, frozen=True, omit_defaults=True):
    """A word in its parts; or an operator. `array`: what stands in the brackets of NAME=(...)."""

    line: int
    parts: tuple[Part, ...] = ()
    operator: str = ""
    array: tuple[Token, ...] | None = None

    def plain(self) -> str:
        """Return the text of a word that has neither quotes nor expansions in it, else ""."""
        simple = all(part.kind == "text" and not part.quoted for part in self.parts)
        return "".join(part.text for part in self.parts) if simple else ""


class Step(Struct):
    """A simple command, which may have no words, and the operator in front of it."""

    before: str = ""
    words: list[Token] = []
    redirected: bool = False  #: a redirection was taken out: in `[[ a > b ]]` it is none


def steps(text: str, source: str, first_line: int = 1) -> list[Step]:
    """Return the simple commands of a text in their order, without redirections.

    A command behind a line's end goes with the `&&`, `||` or `|` that the line ends with. Raises
    LaunchUnreadable for a quote or a bracket that is never closed.
    """
    found = [Step("", [])]
    skip = False
    for token in _Lexer(text, source, first_line).tokens():
        if token.operator in _REDIRECTIONS:
            skip = found[-1].redirected = True
        elif token.operator:
            skip = False
            last = found[-1]
            if not (token.operator == "\n" and not last.words and last.before in _JOINING):
                found.append(Step(token.operator, []))
        elif skip:
            skip = False
        else:
            found[-1].words.append(token)
    return found


def commands(text: str, source: str, first_line: int = 1) -> list[list[Token]]:
    """Return the words of the simple commands alone; raises like `steps`."""
    return [step.words for step in steps(text, source, first_line) if step.words]


def quoted(text: str, source: str, line: int, depth: int = 0) -> tuple[Part, ...]:
    """Return the parts of a text as between double quotes; raises like `commands`."""
    return tuple(_inner(text, source, line, depth).inside_quotes(None))


def unquoted(text: str, source: str, line: int, depth: int = 0) -> tuple[Part, ...]:
    """Return the parts of the text behind `:-` where no quotes are around it; raises like `commands`."""
    return tuple(_inner(text, source, line, depth).default())


def _inner(text: str, source: str, line: int, depth: int) -> _Lexer:
    if depth > _DEEPEST:
        raise LaunchUnreadable(f"{source}:{line}: expansions are nested more than {_DEEPEST} deep")
    return _Lexer(text, source, line)


class _Lexer:
    def __init__(self, text: str, source: str, line: int) -> None:
        self.text, self.source, self.line, self.at = text, source, line, 0
        self.bodies: list[tuple[str, bool]] = []  #: here-documents that begin at the next line

    def tokens(self, closing: str = "") -> list[Token]:
        """Return what is left of the text in tokens, or what is left before an operator `closing`."""
        found: list[Token] = []
        began = self.line
        while self._blank():
            operator = self._operator()
            if operator and operator == closing:
                return found
            if operator == "\n" and closing:
                continue
            if operator:
                found.append(Token(self.line - (operator == "\n"), operator=operator))
                if operator in ("<<", "<<-"):
                    self._announce(operator)
                continue
            word = self._word()
            if not (word.plain().isdigit() and self.text[self.at : self.at + 1] in ("<", ">")):  # 2>&1
                found.append(word)
        if closing:
            raise self._never(began, "(")
        return found

    def _blank(self) -> bool:
        """Go past what separates words, and comments; return whether anything is left."""
        while self.at < len(self.text):
            if self.text[self.at] in " \t\r":
                self.at += 1
            elif self.text.startswith("\\\n", self.at):
                self.at += 2
                self.line += 1
            elif self.text[self.at] == "#":
                end = self.text.find("\n", self.at)
                self.at = len(self.text) if end < 0 else end
            else:
                return True
        return False

    def _operator(self) -> str:
        operators: tuple[str, ...] = (*_OPERATORS, *_SINGLE)
        for operator in operators:
            if self.text.startswith(operator, self.at):
                self.at += len(operator)
                if operator == "\n":
                    self.line += 1
                    self._bodies()
                return operator
        return ""

    def _announce(self, operator: str) -> None:
        """Read the word that ends a here-document; it stays where it is, as the target of `<<`."""
        match = re.compile(r"""[ \t]*['"\\]?([^\s'";&|<>()]+)""").match(self.text, self.at)
        if match:
            self.bodies.append((match[1], operator == "<<-"))

    def _bodies(self) -> None:
        """Go past the here-documents that begin here."""
        for delimiter, tabs in self.bodies:
            while self.at < len(self.text):
                end = self.text.find("\n", self.at)
                end = len(self.text) if end < 0 else end
                line = self.text[self.at : end]
                self.at, self.line = min(end + 1, len(self.text)), self.line + 1
                if (line.lstrip("\t") if tabs else line) == delimiter:
                    break
        self.bodies = []

    def _word(self) -> Token:
        line, parts = self.line, list[Part]()
        while self.at < len(self.text):
            char = self.text[self.at]
            if char == "(" and _ARRAY.match("".join(part.text for part in parts)):
                self.at += 1
                return Token(line, tuple(parts), array=tuple(self.tokens(")")))
            if char in " \t\r" or char in _SINGLE:
                break
            parts.extend(self._piece(char))
        return Token(line, tuple(parts))

    def _piece(self, char: str) -> list[Part]:
        if char == "'":
            return [Part(self._until("'", self.at + 1), quoted=True)]
        if char == '"':
            self.at += 1
            return self.inside_quotes(self.line) or [Part("", quoted=True)]
        if char == "\\":
            self.at += 2
            escaped = self.text[self.at - 1 : self.at]
            self.line += escaped == "\n"
            return [] if escaped == "\n" else [Part(escaped, quoted=True)]
        if char == "$" and self.text.startswith("$'", self.at):
            return [Part(_decoded(self._until("'", self.at + 2, escapes=True)), quoted=True)]
        if char in "$`":
            return [self._expansion(quoted=False)]
        end = re.compile(r"[^\s'\"\\$`;&|<>()]+").match(self.text, self.at)
        self.at = end.end() if end else self.at + 1
        return [Part(end[0] if end else char)]

    def default(self) -> list[Part]:
        """Return the parts of all that is left, blanks and operators being text."""
        parts: list[Part] = []
        while self.at < len(self.text):
            parts += self._piece(self.text[self.at])
        return parts

    def inside_quotes(self, began: int | None) -> list[Part]:
        """Return the parts up to the closing double quote, or up to the end where there is none to come."""
        parts: list[Part] = []
        while self.at < len(self.text):
            char = self.text[self.at]
            if char == '"' and began is not None:
                self.at += 1
                return parts or [Part("", quoted=True)]
            if char == '"':
                self.at += 1  # "${A:-"b c"}": the quotes inside are none of the text
            elif char == "\\" and self.text[self.at + 1 : self.at + 2] in ('"', "\\", "$", "`", "\n"):
                escaped = self.text[self.at + 1]
                self.at += 2
                self.line += escaped == "\n"
                parts += [] if escaped == "\n" else [Part(escaped, quoted=True)]
            elif char in "$`":
                parts.append(self._expansion(quoted=True))
            else:
                end = re.compile(r'[^"\\$`]+').match(self.text, self.at)
                piece = end[0] if end else char
                self.at += len(piece)
                self.line += piece.count("\n")
                parts.append(Part(piece, quoted=True))
        if began is not None:
            raise self._never(began, '"')
        return parts

    def _expansion(self, quoted: bool) -> Part:
        text, at = self.text, self.at
        if text[at] == "`":
            return Part(f"`{self._until('`', at + 1, escapes=True)}`", "unknown", quoted)
        if text.startswith("$(", at):
            return Part("$" + self._balanced(at + 1, "(", ")"), "unknown", quoted)
        if text.startswith("${", at):
            return Part(self._balanced(at + 1, "{", "}")[1:-1], "variable", quoted)
        if match := _NAME.match(text, at + 1):
            self.at = match.end()
            return Part(match[0], "variable", quoted)
        self.at += 1
        return Part("$", quoted=quoted)

    def _balanced(self, at: int, opening: str, closing: str) -> str:
        """Return the text from a bracket to the one that closes it; quotes inside hide brackets."""
        began, depth, start = self.line, 0, at
        while at < len(self.text):
            char = self.text[at]
            if char == "\\":
                at += 1
            elif char == "'" and opening == "(":
                self.at = at
                self._until("'", at + 1)
                at = self.at - 1
            elif char in (opening, closing):
                depth += 1 if char == opening else -1
                if not depth:
                    self.at = at + 1
                    self.line = began + self.text.count("\n", start, at)
                    return self.text[start : at + 1]
            at += 1
        raise self._never(began, f"${opening}")

    def _until(self, quote: str, start: int, escapes: bool = False) -> str:
        """Return the text up to a closing quote and go past it."""
        end = start
        while end < len(self.text) and self.text[end] != quote:
            end += 2 if escapes and self.text[end] == "\\" else 1
        if end >= len(self.text):
            raise self._never(self.line, quote)
        self.line += self.text.count("\n", start, end)
        self.at = end + 1
        return self.text[start:end]

    def _never(self, line: int, what: str) -> LaunchUnreadable:
        return LaunchUnreadable(f"{place(self.source, line)}: the {what} is never closed")


_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "0": "\0", "e": "\x1b"}


def _decoded(text: str) -> str:
    return re.sub(r"\\(.)", lambda match: _ESCAPES.get(match[1], match[1]), text, flags=re.DOTALL)
