"""Linker scripts, as ld takes a file that is neither ELF nor an archive."""

from __future__ import annotations

import re

from msgspec import Struct


class Script(Struct, frozen=True):
    """A linker script as far as it names files. `reason`: what in it is not followed here."""

    valid: bool
    members: tuple[str, ...] = ()
    output_format: str = ""
    reason: str = ""


#: A token of ld's own scanner by the letter of its group; a character that none takes makes ld give up.
_TOKEN = re.compile(
    r"""(?P<_>[ \t\r\n]+|/\*(?:[^*]|\*(?!/))*\*/)
    | (?P<h>\#[^\n]*)
    | (?P<q>"[^"]*")
    | (?P<l>-l[A-Za-z0-9_/.\\$~+:\[\],=-]+)
    | (?P<n>[A-Za-z_/.\\$~][A-Za-z0-9_/.\\$~+:\[\],=-]*)
    | (?P<d>(?:0[xX][0-9A-Fa-f]+|[0-9]+)[MKmk]?)
    | (?P<p>[-+=!~>,;:(){}])""",
    re.VERBOSE,
)
#: Commands that are read, by letter; the rest of ld's, which are not followed.
_LETTERS = {"INPUT": "I", "GROUP": "I", "OUTPUT_FORMAT": "F", "ENTRY": "E", "AS_NEEDED": "A"}
_OTHERS = {
    "ASSERT", "EXTERN", "FORCE_COMMON_ALLOCATION", "FORCE_GROUP_ALLOCATION", "HIDDEN", "INCLUDE", "INSERT",
    "INHIBIT_COMMON_ALLOCATION", "LD_FEATURE", "MEMORY", "NOCROSSREFS", "NOCROSSREFS_TO", "OUTPUT", "PHDRS",
    "OUTPUT_ARCH", "PROVIDE", "PROVIDE_HIDDEN", "REGION_ALIAS", "SEARCH_DIR", "SECTIONS", "STARTUP", "TARGET",
    "VERSION",
}  # fmt: skip


def _list_of(item: str) -> str:
    return rf"\({item}(?:,?{item})*\)"


_NAME = r"[nqlIFEK]"
_ITEM = rf"(?:{_NAME}|A{_list_of(rf'(?:{_NAME}|A{_list_of(_NAME)})')})"
_FORMAT = re.compile(r"F\(([nq])(?:,[nq],[nq])?\)")
_STATEMENT = re.compile(rf"h|;|I{_list_of(_ITEM)}|{_FORMAT.pattern}|E\([nq]\)|n=d;")
#: What ld may accept, with an effect that is not followed: another command, an expression, an odd member.
_BEYOND = re.compile(r"K|n=[^;]*;|I\([^()]*[-=!~>;:{}hd]")


def read_script(text: str) -> Script:
    """Read a linker script as ld does: scan it whole, heed OUTPUT_FORMAT wherever it stands, then parse it.

    The tokens are written as a word of one letter each, so that the grammar is a regular expression.
    """
    tokens, at = [], 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            return Script(False)
        at = match.end()
        if match.lastgroup != "_":
            tokens.append((_letter(match.lastgroup or "", match[0]), match[0]))
    shape = "".join(letter for letter, _ in tokens)
    formats = {tokens[found.start(1)][1].strip('"') for found in _FORMAT.finditer(shape)}
    return _parse(shape, [token for _, token in tokens], formats)


def _letter(group: str, token: str) -> str:
    if group == "n":
        return _LETTERS.get(token, "K" if token in _OTHERS else "n")
    return token if group == "p" else group


def _parse(shape: str, tokens: list[str], formats: set[str]) -> Script:
    members: list[str] = []
    output_format = min(formats, default="")
    reason = "several OUTPUT_FORMAT" if len(formats) > 1 else ""
    at = 0
    while at < len(shape):
        match = _STATEMENT.match(shape, at)
        if match is None:
            beyond = _BEYOND.match(shape, at)
            return Script(beyond is not None, (), output_format, f"{tokens[at]} in it" if beyond else "")
        if shape[at] == "I":
            inside = [i for i in range(at + 2, match.end()) if shape[i] not in "A(),"]
            members += [tokens[i].strip('"') for i in inside]
            if any(tokens[i].startswith('"-l') for i in inside):
                reason = "a quoted -l"
        at = match.end()
    return Script(True, tuple(members), output_format, reason)
