"""A plan as a shell script, for people who read before they run.

The script needs a POSIX sh with the usual tools. Like the fix itself it looks at every place before it
changes the first one, follows no link on the way, leaves alone what is already as wanted, and stops where a
place is neither that nor what the plan saw. It writes no journal: taking it back is up to who runs it.
"""

from __future__ import annotations

import os
import re
import shlex
import string
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from cudadoctor.actions import (
    Action,
    Install,
    MakeFolder,
    MakeLink,
    MoveAside,
    RemoveLink,
    Safety,
    Show,
    Step,
    TurnLink,
    WriteFile,
)
from cudadoctor.show import visible
from cudadoctor.words import said

if TYPE_CHECKING:
    from cudadoctor.plan import Change

_BARE = re.compile(r"[\w@%+=:,./-]+", re.ASCII)
_MARKS = frozenset(" @%+=:,./-_()[]{}*?!#<>|&;^~")
_LETTERS = (string.ascii_letters + string.digits + " /._-").encode()
_PRINTED = bytes(code for code in range(0x20, 0x7F) if code != ord("\\"))
_LINE_CHARACTERS = 100  #: of a line that holds bytes as escapes
_WITHHELD = {
    Safety.SAFE: "not asked for",
    Safety.UNSAFE: "needs --unsafe",
    Safety.MANUAL: "left to you",
}


def render(changes: Sequence[Change], held: Sequence[Change], *, prefix: str, what: str, created: str) -> str:
    """Return a script that carries out `changes` in their order; `held` ones are comments in it.

    `prefix` is the absolute path of the environment's folder; it and the paths of steps hold no link on the
    way. `what` is one line about the target, `created` a date. Raises ValueError where a path or a command
    is none that could be carried out.
    """
    writer = _Writer(_path(prefix))
    # The names are complete only when everything that may need one is written.
    place = writer.word(prefix)
    body = [line for number, change in enumerate(changes, 1) for line in writer.change(number, change)]
    lines = [
        "#!/bin/sh",
        *_head(what, created, len(held)),
        *("", "set -eu", "umask 022", ""),
        *writer.names,
        f"prefix={place}",
        *_helpers([step for change in changes for step in change.steps]),
        *("", "changes() {", *(body or ["# Nothing is to be changed."]), ":", "}"),
        *(line for change in held for line in _held(change)),
        *_ending(prefix),
    ]
    return "\n".join(lines) + "\n"


def cksum(content: bytes) -> str:
    """Return the checksum and the length of `content` in bytes, as POSIX `cksum` prints them."""
    length, crc = len(content), 0
    for byte in content + length.to_bytes((length.bit_length() + 7) // 8, "little"):
        crc = (crc << 8 & 0xFFFFFFFF) ^ _CRC[crc >> 24 ^ byte]
    return f"{crc ^ 0xFFFFFFFF} {length}"


def _crc_of(byte: int) -> int:
    crc = byte << 24
    for _ in range(8):
        crc = crc << 1 ^ (0x104C11DB7 if crc & 0x80000000 else 0)
    return crc


_CRC = tuple(map(_crc_of, range(256)))

# --- what is changed ----------------------------------------------------------------------------------------


class _Writer:
    """Writes steps as commands; names that cannot stand in a line become variables before the commands."""

    def __init__(self, prefix: str) -> None:
        self.names: list[str] = []
        self._prefix = prefix
        self._known: dict[str, str] = {}

    def change(self, number: int, change: Change) -> Iterator[str]:
        """Yield the comment and the commands of one change."""
        first, *more = _sentences(change.actions or change.steps)
        yield ""
        yield _comment(f"{number}. {_title(change)}: {first}")
        yield from (_comment(f"   - {sentence}") for sentence in more)
        if not change.steps:
            yield "#    (nothing is left to do for it here)"
        for step in change.steps:
            yield from self._step(step)

    def word(self, text: str) -> str:
        """Return `text` as one word of a command."""
        if "\0" in text:
            raise ValueError(f"{text!r} holds a NUL: no file or argument can")
        if _BARE.fullmatch(text):
            return text
        if _is_plain(text) and not text.startswith("~"):
            return f"'{text}'"
        return f'"${self._name(text)}"'

    def place(self, path: str) -> str:
        """Return a path as one word, short where it is in the prefix."""
        inside = f"{self._prefix}/"
        rest = path[len(inside) :] if path.startswith(inside) else ""
        return f'"$prefix/{rest}"' if rest and _is_plain(rest) else self.word(path)

    def _name(self, text: str) -> str:
        if text not in self._known:
            name = self._known[text] = f"name_{len(self._known) + 1}"
            # A command substitution takes newlines off its end: the dot keeps them.
            self.names += [
                f"{name}=$(printf '%b' '{_escaped(os.fsencode(text), _LETTERS)}.')",
                f"{name}=${{{name}%.}}",
            ]
        return self._known[text]

    def _step(self, step: Step) -> Iterator[str]:
        match step:
            case MakeFolder(path):
                yield f"make_folder {self.place(_path(path))}"
            case MakeLink(path, text):
                yield f"make_link {self.place(_path(path))} {self.word(_link(text, path))}"
            case TurnLink(path, text, before):
                texts = f"{self.word(_link(text, path))} {self.word(before)}"
                yield f"turn_link {self.place(_path(path))} {texts}"
            case RemoveLink(path, before):
                yield f"remove_link {self.place(_path(path))} {self.word(before)}"
            case WriteFile():
                yield from self._file(step)
            case MoveAside(path):
                yield f"move_aside {self.place(_path(path))} {self.place(_aside(step))}"
            case Install(argv=argv):
                if not argv:
                    raise ValueError(f"no command is known that installs {', '.join(step.packages)}")
                yield f"run {' '.join(map(self.place, argv))}"

    def _file(self, step: WriteFile) -> Iterator[str]:
        was = step.before
        before = f"file {was.mode:o} {cksum(was.content)}" if was else "nothing"
        text = _text(step.content)
        how, lines = ("cat", text.split("\n")[:-1]) if text else ("bytes", list(_as_bytes(step.content)))
        end = _delimiter(lines)
        facts = f"{step.mode:o} '{cksum(step.content)}' {self.word(before)}"
        yield f"write_file {self.place(_path(step.path))} {facts} {how} <<'{end}'"
        yield from lines
        yield end


def _path(path: str) -> str:
    if not path.startswith("/") or {"", ".", ".."} & set(path[1:].split("/")):
        raise ValueError(f"{path!r} is no plain absolute path")
    return path


def _aside(step: MoveAside) -> str:
    if "/" in step.aside or step.aside in ("", ".", ".."):
        raise ValueError(f"{step.path} cannot be moved aside to {step.aside!r}")
    return f"{step.path.rpartition('/')[0]}/{step.aside}"


def _link(text: str, path: str) -> str:
    if not text:
        raise ValueError(f"{path}: a link must lead somewhere")
    return text


def _is_plain(text: str) -> bool:
    """Return whether `text` can stand between quotes of either kind, and be read there."""
    return bool(text) and all(c in _MARKS or c.isalnum() for c in text)


def _escaped(content: bytes, selves: bytes) -> str:
    """Return bytes for `printf %b`; `selves` are those that stand for themselves."""
    return "".join(chr(byte) if byte in selves else f"\\0{byte:03o}" for byte in content)


def _text(content: bytes) -> str:
    """Return `content` where it is lines that a reader sees as they are, else ""."""
    try:
        text = content.decode()
    except UnicodeDecodeError:
        return ""
    shown = text.endswith("\n") and all(c in "\n\t" or c.isprintable() for c in text)
    return text if shown and visible(text.translate({9: None, 10: None})) else ""


def _as_bytes(content: bytes) -> Iterator[str]:
    """Yield `content` in escaped pieces, a new one after each newline and before a line grows too long."""
    line = ""
    for byte in content:
        line += _escaped(bytes([byte]), _PRINTED)
        if byte == 0x0A or len(line) >= _LINE_CHARACTERS:
            yield line
            line = ""
    if line:
        yield line


def _delimiter(lines: Sequence[str]) -> str:
    text, number = "\n".join(lines).upper(), 0
    while (end := f"END{number or ''}") in text:
        number += 1
    return end


# --- what is said -------------------------------------------------------------------------------------------


def _comment(text: str) -> str:
    """Return `text` as one comment, which it cannot leave."""
    return f"# {visible(text)}".rstrip()


def _head(what: str, created: str, held: int) -> Iterator[str]:
    yield _comment(f"Target: {what}")
    yield _comment(f"Planned by cudadoctor fix, {created}. Read it, then run it with sh; no root is needed.")
    yield "#"
    yield "# It looks at every place before it changes the first one. Where one is not what the plan saw, it"
    yield "# stops, and nothing is changed. What is as wanted is left alone, so that it may be run again."
    if held:
        yield f"# Not in it: {held} more, explained at the end."


def _title(change: Change) -> str:
    return f"{change.fix} (for {', '.join(change.checks)})" if change.checks else change.fix


def _sentences(actions: Iterable[Action]) -> list[str]:
    """Return what actions do, in lines of no particular safety."""
    return [line for action in actions for line in _lines(action)] or ["nothing to do"]


def _lines(action: Action) -> list[str]:
    match action:
        case Install(tool, packages):
            # Where it is done its whole command stands below: once is enough.
            return [said(Install(tool, packages))]
        case Show(text):
            return text.split("\n")
    return [said(action)]


def _held(change: Change) -> Iterator[str]:
    yield ""
    yield _comment(f"Not done: {_title(change)}: {change.refused or _WITHHELD[change.safety]}")
    yield from (_comment(f"   - {sentence}") for sentence in _sentences(change.actions or change.steps))
    if change.by_hand:
        yield _comment(f"   by hand: {change.by_hand}")


# --- how it is done -----------------------------------------------------------------------------------------

_COMMON = r"""
say() {
    printf '%s\n' "$*" | LC_ALL=C tr '\001-\011\013-\037\177' '?'
}

stop() {
    say "$@" >&2
    exit 1
}

# is PATH STATE: whether PATH is in that state. A link is looked at, never followed.
is() {
    case $2 in
    nothing) [ ! -e "$1" ] && [ ! -L "$1" ] ;;
    folder) [ -d "$1" ] && [ ! -L "$1" ] ;;
    "link "*) [ -L "$1" ] && [ "$(readlink -n "$1" && echo .)" = "${2#link }." ] ;;
    "file "*)
        facts=${2#file } # mode, checksum, length
        [ -f "$1" ] && [ ! -L "$1" ] && [ -n "$(find "$1" -prune -perm "${facts%% *}")" ] &&
            [ "$(cksum <"$1")" = "${facts#* }" ]
        ;;
    esac
}

# found PATH: says what is there.
found() {
    if [ -L "$1" ]; then
        printf 'link %s' "$(readlink "$1")"
    elif [ -d "$1" ]; then
        echo folder
    elif [ -f "$1" ]; then
        printf 'file with checksum %s' "$(cksum <"$1")"
    elif [ -e "$1" ]; then
        echo 'special file'
    else
        echo nothing
    fi
}

# reach PATH: stops where the way to PATH leads over a link or a file.
reach() {
    folder=${1%/*}
    while [ -n "$folder" ] && is "$folder" nothing; do
        folder=${folder%/*}
    done
    here=$(cd -P "$folder/" 2>/dev/null && pwd -P && echo .) || here=
    [ "${here%?.}" = "${folder:-/}" ] ||
        stop "$1 is not what the plan saw: on the way there $folder is a link, beyond one, or a file"
}

# now: whether it is time to act; stops where nothing can be put into the folder that `reach` found.
now() {
    [ -w "$folder/" ] || stop "$folder may not be written to"
    [ "$pass" = act ]
}

# due PATH BEFORE AFTER: whether PATH is to be changed now; stops where it is in neither state.
due() {
    reach "$1"
    if is "$1" "$3"; then
        [ "$pass" = look ] || say "already so: $1"
        return 1
    fi
    is "$1" "$2" || stop "$1 is not what the plan saw: it was: $2; it is: $(found "$1")"
    now
}
"""

_HELPERS = {
    MakeFolder: r"""
make_folder() { # PATH
    if due "$1" nothing folder; then
        mkdir "$1"
        say "made: $1"
    fi
}
""",
    MakeLink: r"""
make_link() { # PATH TEXT
    if due "$1" nothing "link $2"; then
        ln -s -- "$2" "$1"
        say "made: $1 -> $2"
    fi
}
""",
    TurnLink: r"""
turn_link() { # PATH TEXT BEFORE
    if due "$1" "link $3" "link $2"; then
        rm "$1" # ln -f would put the new link into a folder that the old one leads to
        ln -s -- "$2" "$1"
        say "turned: $1 -> $2"
    fi
}
""",
    RemoveLink: r"""
remove_link() { # PATH BEFORE
    if due "$1" "link $2" nothing; then
        rm "$1"
        say "removed: $1"
    fi
}
""",
    WriteFile: r"""
new=
trap '[ -z "$new" ] || rm -f "$new"' EXIT
trap 'exit 1' HUP INT TERM

# bytes: copies standard input, where \0ddd is a byte in octal and the ends of lines mean nothing.
bytes() {
    while IFS= read -r line; do
        printf '%b' "$line"
    done
}

# The content is on standard input, to be read with READER: as it is with cat, or with bytes.
write_file() { # PATH MODE CKSUM BEFORE READER
    if due "$1" "$4" "file $2 $3"; then
        is "${1%/*}/.cudadoctor-$$" nothing || stop "${1%/*}/.cudadoctor-$$ is in the way"
        new=${1%/*}/.cudadoctor-$$
        (umask 077 && set -C && "$5" >"$new")
        chmod "$2" "$new"
        is "$new" "file $2 $3" || stop "$1 could not be written"
        mv -f "$new" "$1"
        new=
        say "written: $1"
    fi
}
""",
    MoveAside: r"""
move_aside() { # PATH ASIDE
    reach "$1"
    if is "$1" nothing; then
        ! is "$2" nothing || stop "$1 is not what the plan saw: it is gone"
        [ "$pass" = look ] || say "already so: $1 is aside"
    else
        is "$2" nothing || stop "$1 is not what the plan saw: $2 is there already"
        if now; then
            mv "$1" "$2"
            say "moved: $1 to $2"
        fi
    fi
}
""",
    Install: r"""
run() { # COMMAND...
    if [ "$pass" = look ]; then
        command -v "$1" >/dev/null || stop "$1 is not there to be run"
    else
        say "running: $*"
        "$@"
    fi
}
""",
}


def _helpers(steps: Sequence[Step]) -> Iterator[str]:
    """Yield the functions that these steps need, and no others: each is one more to read."""
    yield from _COMMON.rstrip("\n").split("\n")
    for kind, helper in _HELPERS.items():
        if any(isinstance(step, kind) for step in steps):
            yield from helper.rstrip("\n").split("\n")


def _ending(prefix: str) -> Iterator[str]:
    yield from (
        "",
        '[ -d "$prefix/" ] || stop "$prefix is not there: this script was made for it"',
        "pass=look",
        "changes",
        "pass=act",
        "changes",
        "",
        "# To see what is left:",
    )
    where = prefix if shlex.quote(prefix) == prefix else "'$prefix'"
    yield f'say "Done. To see what is left: cudadoctor check --prefix {where}"'
