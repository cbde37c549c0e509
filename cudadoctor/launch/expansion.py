"""What stands for `$NAME` in a shell: the values that are known before anything runs."""

from __future__ import annotations

import re
from collections.abc import Callable

from msgspec import Struct

from cudadoctor.launch.shell import Part, Token, quoted, unquoted
from cudadoctor.launch.texts import Word, place

_FORM = re.compile(r"([A-Za-z_]\w*(?:\[[@*]\])?|\d)(?:(:?[-=?+])(.*))?", re.DOTALL)
_ELEMENTS = re.compile(r"([A-Za-z_]\w*)\[(?:@|\*|(\d+))\]")
_HOME = re.compile(r"((?:[A-Za-z_]\w*=)?)~(?=/|$)")
_LONGEST = 1 << 16


class Value(Struct, frozen=True, omit_defaults=True):
    """What a variable holds; with a reason where that is not known."""

    text: str
    origin: str
    reason: str = ""
    prefix: str = ""  #: what a text that is not known begins with in any case


class Scope:
    """The variables of a shell, in front of those it was started with."""

    def __init__(self, outer: Callable[[str], str | None], home: str, source: str) -> None:
        self._outer, self._home, self.source = outer, home, source
        self.values: dict[str, Value] = {}
        self.arrays: dict[str, list[Word]] = {}
        self.exported: set[str] = set()
        self.gone: set[str] = set()
        self.empty: dict[str, str] = {}  #: variables that were used, and are set nowhere: by place

    def get(self, name: str) -> Value | None:
        """Return what the variable holds, or None where it is not set."""
        if name in self.values:
            return self.values[name]
        if self.arrays.get(name):
            first = self.arrays[name][0]
            return Value(first.text, first.origin, first.reason, first.prefix)
        value = None if name in self.gone else self._outer(name)
        return None if value is None else Value(value, "environment")

    def set(self, name: str, value: Value) -> None:
        """Give the variable a value; one longer than any command line counts as not known."""
        if len(value.text) > _LONGEST:
            value = Value("", value.origin, f"{name} is longer than any command line")
        self.values[name] = value
        self.arrays.pop(name, None)
        self.gone.discard(name)

    def unset(self, name: str) -> None:
        """Forget the variable, the one from outside too."""
        self.values.pop(name, None)
        self.arrays.pop(name, None)
        self.exported.discard(name)
        self.gone.add(name)

    def words(self, token: Token) -> list[Word]:
        """Return what a word becomes: none, one or several, as unquoted values are split at blanks."""
        origin = place(self.source, token.line)
        fields = _Fields(origin, whole=False)
        for at, part in enumerate(token.parts):
            self._add(fields, part, origin, first=at == 0)
        return fields.done()

    def one(self, token: Token) -> Value:
        """Return what a word becomes where it is not split: on the right side of an assignment."""
        return self._whole(token.parts, place(self.source, token.line), 0)

    def _whole(self, parts: tuple[Part, ...], origin: str, depth: int) -> Value:
        fields = _Fields(origin, whole=True)
        for at, part in enumerate(parts):
            self._add(fields, part, origin, first=at == 0, depth=depth)
        word = next(iter(fields.done()), Word("", origin))
        return Value(word.text, origin, word.reason, word.prefix)

    def _add(self, fields: _Fields, part: Part, origin: str, *, first: bool = False, depth: int = 0) -> None:
        """Add what one piece of a word becomes."""
        if part.kind == "text":
            home = _HOME.match(part.text) if first and not part.quoted else None
            fields.add(f"{home[1]}{self._home}{part.text[home.end() :]}" if home else part.text)
        elif part.kind == "unknown":
            reason = f"{_short(part.text)} is known only when it runs"
            fields.add(part.text, reason, many=not part.quoted)
        elif (elements := self._elements(part.text)) is not None:
            fields.several(elements, part.quoted)
        else:
            chosen = self._chosen(part.text, origin, depth)
            if isinstance(chosen, str):
                if part.quoted:
                    fields.add("")  # between quotes nothing is a word too
                for inner in self._parts(chosen, origin, depth, part.quoted):
                    if inner.kind == "text" and not inner.quoted:
                        fields.split(Value(inner.text, origin))
                    else:
                        self._add(fields, inner, origin, depth=depth + 1)
            elif part.quoted:
                several = part.text.startswith("@") or "[@]" in part.text
                fields.add(chosen.text, chosen.reason, many=several, prefix=chosen.prefix)
            else:
                fields.split(chosen)

    def _elements(self, expression: str) -> list[Word] | None:
        """Return the elements of `NAME[@]`, none of one that is not set; None where this is no array."""
        if expression in ("@", "*"):
            return self.arrays.get("@", [])
        match = _ELEMENTS.fullmatch(expression)
        if match is not None and match[1] not in self.arrays and self.get(match[1]) is None:
            return []
        if match is None or match[1] not in self.arrays:
            return None
        elements = self.arrays[match[1]]
        return elements if match[2] is None else elements[int(match[2][:6]) :][:1]

    def _chosen(self, expression: str, origin: str, depth: int) -> Value | str:
        """Return what `${expression}` stands for; a text that is still to be expanded for its default."""
        match = _FORM.fullmatch(expression)
        if match is None:
            shown = f"${expression}" if len(expression) == 1 else f"${{{expression}}}"
            return Value(shown, origin, f"{_short(shown)} is known only when it runs")
        name, form, word = match[1], match[2] or "", match[3] or ""
        if name.endswith("]"):
            return self._of_array(name, form, word, origin)
        held = self.get(name)
        usable = held is not None and (bool(held.text or held.reason) or ":" not in form)
        if form.endswith("+"):
            return word if usable else Value("", origin)
        if held is not None and usable:
            return held
        if form.endswith("?"):
            said = self._whole(self._parts(word, origin, depth, False), origin, depth + 1).text
            return Value("", origin, f"{name} is not set, and the script ends there: {said or 'it must be'}")
        if form.endswith("="):
            value = self._whole(self._parts(word, origin, depth, False), origin, depth + 1)
            self.set(name, value)
            return value
        if form:
            return word
        if name.isdigit():
            return Value("", origin, f"${name} is known only when it runs")
        self.empty.setdefault(name, origin)
        return Value("", origin)

    def _of_array(self, name: str, form: str, word: str, origin: str) -> Value | str:
        """Return what `${NAME[@]+word}` stands for, and the forms like it."""
        elements = self._elements(name)
        if elements is None or not form or form[-1] not in "-+":
            shown = f"${{{name}{form}{word}}}"
            return Value(shown, origin, f"{_short(shown)} is known only when it runs")
        if form.endswith("+"):
            return word if elements else Value("", origin)
        return f"${{{name}}}" if elements else word

    def _parts(self, word: str, origin: str, depth: int, in_quotes: bool) -> tuple[Part, ...]:
        source, _, line = origin.rpartition(":")
        read = quoted if in_quotes else unquoted
        return read(word, source, int(line), depth) if source else read(word, origin, 1, depth)


class _Fields:
    """The words that one word becomes; `whole`: it stays one, whatever blanks its values have."""

    def __init__(self, origin: str, whole: bool) -> None:
        self._origin, self._whole, self._done = origin, whole, list[Word]()
        self._text: str | None = None
        self._reason = self._prefix = ""
        self._many = False

    def add(self, text: str, reason: str = "", *, many: bool = False, prefix: str = "") -> None:
        if reason and not self._reason:
            self._prefix, self._many = (self._text or "") + prefix, many and not self._text
        self._text = (self._text or "") + text
        self._reason = self._reason or reason
        if len(self._text) > _LONGEST:
            self._text, self._reason, self._prefix = "", "a text longer than any command line", ""

    def split(self, value: Value) -> None:
        """Add what is split at blanks, as an unquoted value is; in front of what is not known the prefix."""
        if self._whole:
            if value.text or value.reason:
                self.add(value.text, value.reason, prefix=value.prefix)
            return
        pieces = re.split(r"[ \t\n]+", value.prefix if value.reason else value.text)
        for at, piece in enumerate(pieces[:-1] if value.reason else pieces):
            if at:
                self.end()
            if piece:
                self.add(piece)
        if value.reason:
            if len(pieces) > 1:
                self.end()
            self.add(value.text, value.reason, many=True)

    def several(self, elements: list[Word], kept: bool) -> None:
        """Add an array's elements, each a word of its own."""
        for at, word in enumerate(elements):
            if at and self._whole:
                self.add(" ")
            elif at:
                self.end()
            if kept or self._whole:
                self.add(word.text, word.reason, many=word.many, prefix=word.prefix)
            else:
                self.split(Value(word.text, word.origin, word.reason, word.prefix))

    def end(self) -> None:
        if self._text is not None:
            self._done.append(Word(self._text, self._origin, self._reason, self._many, self._prefix))
        self._text, self._reason, self._prefix, self._many = None, "", "", False

    def done(self) -> list[Word]:
        self.end()
        return self._done


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 40 else f"{line[:39]}…"
