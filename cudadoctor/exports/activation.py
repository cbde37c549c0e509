"""The files that carry exports into every activation: what goes into them, and what is read back.

conda runs every script of `etc/conda/activate.d` and `deactivate.d`, and so these get files of their own. A
virtual environment has one script a shell, which gets two marked blocks: one inside `deactivate`, one at the
end. Each file holds the exports themselves as one line of JSON.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import msgspec
from msgspec import Struct, structs

from cudadoctor.actions import Export
from cudadoctor.exports.commands import fish_quoted
from cudadoctor.exports.model import absolute, relative
from cudadoctor.exports.program import Program

Read = Callable[[str], "bytes | None"]

_CONDA_KINDS = ("conda", "pixi")
_VENV_KINDS = ("venv", "virtualenv", "uv")


class NoActivation(Exception):
    """The environment has no activation that could carry exports, or not these; says why."""


class Written(Struct, frozen=True):
    """The files that have to change, by path, and those that were left as they are, with the reason."""

    files: dict[str, bytes]
    left_out: tuple[str, ...] = ()


class Edited(Struct, frozen=True):
    """A file of ours that somebody has changed since: what it does cannot be told from its exports."""

    path: str


def files(kind: str, prefix: str, exports: Sequence[Export], read: Read) -> Written:
    """Return the activation files as they have to be for these exports; without any, as they were before.

    `kind` is that of a Target; `read` returns a file's content, or None where there is none. Raises
    NoActivation.
    """
    texts = tuple(relative(_checked(export, prefix), prefix) for export in exports)
    if kind in _CONDA_KINDS:
        return Written(_changed(_conda_files(prefix, texts, read), read))
    if kind in _VENV_KINDS:
        return _venv_files(prefix, texts, read)
    raise NoActivation(f"a Python of kind {kind} has no activation of its own")


def persisted(kind: str, prefix: str, read: Read) -> tuple[Export, ...] | Edited:
    """Return the exports that activation applies; Edited where a file of ours is not as we would write it."""
    main = script(kind, prefix)
    content = read(main) if main else None
    if content is None:
        return ()
    found = _stated(kind, content)
    if found is None:
        return Edited(main)
    others = _conda_files(prefix, found, read) if kind in _CONDA_KINDS else _venv_others(prefix, found, read)
    for path, expected in others.items():
        if read(path) not in (None, expected):
            return Edited(path)
    return tuple(absolute(export, prefix) for export in found)


def script(kind: str, prefix: str) -> str:
    """Return the file that tells which exports activation applies, in sh; "" for what has no activation."""
    if kind in _CONDA_KINDS:
        return f"{prefix}/etc/conda/activate.d/cudadoctor.sh"
    return f"{prefix}/bin/activate" if kind in _VENV_KINDS else ""


def from_script(kind: str, prefix: str, content: bytes) -> tuple[Export, ...] | None:
    """Return the exports that the content of `script` applies; None where it was edited by hand."""
    found = _stated(kind, content)
    return None if found is None else tuple(absolute(export, prefix) for export in found)


def _checked(export: Export, prefix: str) -> Export:
    """Return the export without `{prefix}`; raise NoActivation where no script can hold it."""
    plain = absolute(export, prefix)
    texts = (plain.value, *plain.add, *plain.remove)
    if not re.fullmatch(r"[A-Za-z_]\w*", plain.name, re.ASCII):
        raise NoActivation(f"{plain.name!r} is no name of a variable")
    if any(re.search(r"[\0\r\n]", text) for text in texts):
        raise NoActivation(f"{plain.name}: a value with a line break cannot be kept in activation files")
    if any(":" in entry for entry in plain.add):
        raise NoActivation(f"{plain.name}: no list of folders can hold one with a colon in its name")
    try:
        "".join(texts).encode()
    except UnicodeEncodeError:
        raise NoActivation(f"{plain.name}: its value is not UTF-8") from None
    return plain


def _changed(wanted: dict[str, bytes], read: Read) -> dict[str, bytes]:
    return {path: content for path, content in wanted.items() if read(path) != content}


# --- what is said in every file -----------------------------------------------------------------------------

_NOTE = "# `cudadoctor undo` takes this back.\n"
_STATED = re.compile(rb"^# cudadoctor: ([^\n]*)\n", re.MULTILINE)


def _header(exports: Sequence[Export]) -> str:
    # Plain ones first: before Python 3.11, what tuple() makes of an empty iterator is not the `()` that
    # msgspec leaves out, and the line would not be the one that its reader writes again.
    plain = [structs.replace(each, add=each.add or (), remove=each.remove or ()) for each in exports]
    return f"# cudadoctor: {msgspec.json.encode(plain).decode()}\n{_NOTE}"


def _from_header(content: bytes) -> tuple[Export, ...] | None:
    """Return the exports of the first line that states any; None where it is not as we write it."""
    match = _STATED.search(content)
    try:
        return msgspec.json.decode(match[1], type=tuple[Export, ...]) if match else None
    except (ValueError, RecursionError):
        return None


def _stated(kind: str, content: bytes) -> tuple[Export, ...] | None:
    """Return the exports that a script for sh states, in `{prefix}` form; None where it is not our text."""
    if kind in _CONDA_KINDS:
        found = _from_header(content)
        return found if found is not None and content == _conda_script("sh", found) else None
    form = _FORMS["activate"]
    block = form.block(content)
    if block is None:
        return None if _MARK in content else ()
    found = _from_header(block)
    return found if found is not None and form.is_whole(content, found) else None


# --- conda --------------------------------------------------------------------------------------------------

_CONDA = "CONDA_PREFIX"
_SHELLS = ("sh", "fish", "csh")


def _conda_files(prefix: str, exports: Sequence[Export], read: Read) -> dict[str, bytes]:
    """Return all our files of a conda environment; without exports only those that are there."""
    folder = f"{prefix}/etc/conda"
    wanted = {}
    for shell in _SHELLS:
        wanted[f"{folder}/activate.d/cudadoctor.{shell}"] = _conda_script(shell, exports)
        wanted[f"{folder}/deactivate.d/cudadoctor.{shell}"] = _conda_end(shell)
    return {path: text for path, text in wanted.items() if exports or read(path) is not None}


def _conda_script(shell: str, exports: Sequence[Export]) -> bytes:
    return (_header(exports) + (_start(_CONDA, shell, exports, _CONDA_CSH) if exports else "")).encode()


def _conda_end(shell: str) -> bytes:
    return f"# Takes back what ../activate.d/cudadoctor.{shell} has set.\n{_end(_CONDA, shell)}".encode()


# --- one program, three shells ------------------------------------------------------------------------------


def _start(place: str, shell: str, exports: Sequence[Export], csh_file: str) -> str:
    """Return what activation runs: takes back what it set before, then sets and notes."""
    program = Program(place, shell)
    if shell == "csh":
        lines = _commented("#-", program.head + program.restore()) + _commented("#+", program.apply(exports))
        return lines + _in_csh(place, f'sed -n "s/^#[-+] //p" "${place}/{csh_file}" | /bin/sh')
    return _run(place, program, program.restore() + program.apply(exports))


def _end(place: str, shell: str) -> str:
    """Return what deactivation runs."""
    program = Program(place, shell)
    if shell == "csh":
        lines = _commented("#-", program.head + program.restore())
        return lines + _in_csh(place, f'sed -n "s/^#- //p" "${place}/{_CONDA_CSH_END}" | /bin/sh')
    return _run(place, program, program.restore())


_CONDA_CSH = "etc/conda/activate.d/cudadoctor.csh"
_CONDA_CSH_END = "etc/conda/deactivate.d/cudadoctor.csh"


def _run(place: str, program: Program, text: str) -> str:
    if program.shell == "sh":
        return f'if [ -n "${{{place}-}}" ]; then\n{text}{program.tail}fi\n'
    return f"if set -q {place}\n/bin/sh -c {fish_quoted(program.head + text)} | source\nend\n"


def _commented(mark: str, text: str) -> str:
    return "".join(f"{mark} {line}\n" for line in text.splitlines())


def _in_csh(place: str, command: str) -> str:
    # What stands in backquotes is expanded before it is split: a folder with a space in its name would fall
    # apart. So sh gets its command by a variable, and expands it itself.
    return (
        f"if ($?{place}) then\n"
        f"    setenv _CUDADOCTOR_RUN '{command}'\n"
        '    eval "`printenv _CUDADOCTOR_RUN | /bin/sh`"\n'
        "    unsetenv _CUDADOCTOR_RUN\n"
        "endif\n"
    )


# --- virtual environments -----------------------------------------------------------------------------------

_VENV = "VIRTUAL_ENV"
_BEGIN, _CLOSE = "# >>> cudadoctor >>>\n", "# <<< cudadoctor <<<\n"
_MARK = b"# >>> cudadoctor >>>"
_MARKED = rb"# >>> cudadoctor >>>\n(?:[^\n]*\n)*?# <<< cudadoctor <<<\n"
_LAST = re.compile(
    rb"^# >>> cudadoctor >>>\n# cudadoctor: (?:[^\n]*\n)*?# <<< cudadoctor <<<(?:\n|\Z)", re.MULTILINE
)


class _Unknown(Exception):
    """A script of a form that we do not know; says why."""


class _Form:
    """How the activation script of one shell is built, and where our two pieces go in it.

    `anchor` ends where the body of `deactivate` begins, `inner` is what goes there and `marked` its form;
    one of `signs` is in every script that we know.
    """

    def __init__(
        self, shell: str, anchor: bytes, inner: str, marked: bytes, signs: Sequence[bytes], ends: bool = True
    ) -> None:
        self.shell, self.inner, self.signs, self.ends = shell, inner.encode(), signs, ends
        self.anchor = re.compile(anchor, re.MULTILINE)
        self.anchored = re.compile(b"(" + anchor + b")" + marked, re.MULTILINE)

    def with_exports(self, content: bytes, exports: Sequence[Export]) -> bytes:
        """Return the script with these exports in the place of those it has; raise _Unknown."""
        match = _LAST.search(content)
        at = match.start() if match else len(content)
        after = content[match.end() :] if match else b""
        # The line before had no end of its own: the block took one in and left out the last of its own.
        unended = not after and (not match[0].endswith(b"\n") if match else not content.endswith(b"\n"))
        original = self.anchored.sub(rb"\1", content[: at - 1 if match and unended else at], count=1)
        begin = self._anchor_of(original, after)
        if not exports:
            return original + after
        block = self.last(exports) if self.ends else b""
        block = b"\n" + block[:-1] if unended and block else block
        return original[:begin] + self.inner + original[begin:] + block + after

    def _anchor_of(self, original: bytes, after: bytes) -> int:
        """Return where the body of `deactivate` begins; raise _Unknown."""
        content = original + after
        if _MARK in content or _CLOSE.strip().encode() in content:
            raise _Unknown("the marks of our block are damaged")
        anchors = [*self.anchor.finditer(original)]
        if len(anchors) != 1 or not any(sign in content for sign in self.signs):
            raise _Unknown("it has no `deactivate` as venv, virtualenv and uv write it")
        if _VENV.encode() not in content:
            raise _Unknown(f"it does not set {_VENV}")
        return anchors[0].end()

    def last(self, exports: Sequence[Export]) -> bytes:
        """Return the block at the end."""
        text = _start(_VENV, self.shell, exports, "bin/activate.csh")
        if self.shell == "sh":
            # The status of a script that gave up stays what it was.
            text = text.removesuffix("fi\n") + "else\n    false\nfi\n"
        elif self.shell == "csh":
            text += _CSH_LATER
        return f"{_BEGIN}{_header(exports)}{text}{_CLOSE}".encode()

    def block(self, content: bytes) -> bytes | None:
        """Return the block at the end of a script, or None where there is none."""
        match = _LAST.search(content)
        return match[0] if match else None

    def is_whole(self, content: bytes, exports: Sequence[Export]) -> bool:
        """Return whether both our pieces are in the script as we write them."""
        block = self.block(content)
        if self.ends and (block is None or block.rstrip(b"\n") != self.last(exports).rstrip(b"\n")):
            return False
        begin = self.anchor.search(content)
        return begin is not None and content.startswith(self.inner, begin.end())


_TAKE_BACK = "# Takes back what the block at the end of this file has set.\n"
#: Kept for the alias, in whose quotes it has no place.
_CSH_LATER = """\
setenv _CUDADOCTOR_CSH 'sed -n "s/^#- //p" "$VIRTUAL_ENV/bin/activate.csh" | /bin/sh'
"""
_CSH_INNER = (
    'test $?_CUDADOCTOR_CSH != 0 && eval "`printenv _CUDADOCTOR_CSH | /bin/sh`"; unsetenv _CUDADOCTOR_CSH; '
)
_CSH_FIRST = """\
# Takes back what the block at the end of activate.csh has set.
if ($?_CUDADOCTOR_CSH) then
    eval "`printenv _CUDADOCTOR_CSH | /bin/sh`"
    unsetenv _CUDADOCTOR_CSH
endif
"""
_START = b"deactivate nondestructive"
# What virtualenv writes for csh since version 21: the alias runs a file, and so does another activation.
_CSH_FILE = b"/deactivate.csh"
_FORMS = {
    "activate": _Form(
        "sh",
        rb"^deactivate ?\(\) ?\{\n",
        f"{_BEGIN}{_TAKE_BACK}{_end(_VENV, 'sh')}{_CLOSE}",
        _MARKED,
        [_START],
    ),
    "activate.fish": _Form(
        "fish",
        rb"^function deactivate\b[^\n]*\n",
        f"{_BEGIN}{_TAKE_BACK}{_end(_VENV, 'fish')}{_CLOSE}",
        _MARKED,
        [_START],
    ),
    "activate.csh": _Form(
        "csh", rb"^alias deactivate '", _CSH_INNER, re.escape(_CSH_INNER).encode(), [_START, _CSH_FILE]
    ),
    "deactivate.csh": _Form(
        "csh", rb"\A", f"{_BEGIN}{_CSH_FIRST}{_CLOSE}", _MARKED, [b"unalias deactivate"], ends=False
    ),
}


def _venv_files(prefix: str, exports: Sequence[Export], read: Read) -> Written:
    wanted, left_out = {}, []
    for name, form in _FORMS.items():
        path = f"{prefix}/bin/{name}"
        content = read(path)
        if content is None:
            if name == "activate":
                raise NoActivation(f"{path}: there is no such script")
            continue
        try:
            wanted[path] = form.with_exports(content, exports)
        except _Unknown as reason:
            if name == "activate":
                raise NoActivation(f"{path}: {reason}") from None
            left_out.append(f"{path}: {reason}")
    return Written(_changed(wanted, read), tuple(left_out))


def _venv_others(prefix: str, exports: Sequence[Export], read: Read) -> dict[str, bytes]:
    """Return the scripts in which a block of ours is not as we write it, with what they are not."""
    expected = {}
    for name, form in _FORMS.items():
        path = f"{prefix}/bin/{name}"
        content = read(path)
        if content is not None and _MARK in content and not form.is_whole(content, exports):
            expected[path] = b""
    return expected
