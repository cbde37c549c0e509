"""A Dockerfile: what the image of its last stage runs, and with which variables.

The rules are those of buildkit's parser (https://github.com/moby/buildkit, commit 12a6a7c0,
frontend/dockerfile/parser/line_parsers.go, read 2026-11-21).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from msgspec import Struct, structs

from cudadoctor.facts import Variable
from cudadoctor.facts.launch import Container, Launch, Note
from cudadoctor.host import Host
from cudadoctor.launch import containers
from cudadoctor.launch.dotenv import nearby
from cudadoctor.launch.draft import Draft
from cudadoctor.launch.interpolation import Interpolation
from cudadoctor.launch.texts import LaunchUnreadable, Word, whole
from cudadoctor.mistakes import nearest

if TYPE_CHECKING:
    from cudadoctor.launch.options import Options

_INSTRUCTIONS = frozenset((
    "ADD", "ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "FROM", "HEALTHCHECK", "LABEL",
    "MAINTAINER", "ONBUILD", "RUN", "SHELL", "STOPSIGNAL", "USER", "VOLUME", "WORKDIR",
))  # fmt: skip
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"' + r"|'[^']*'")
_HEREDOC = re.compile(r"<<-?[\"']?(\w+)[\"']?")
_COMMENT = re.compile(r"(?:^|\s)#[^\"']*$")
_VARIABLE = re.compile(r"\$\w|\$\{")


class Piece(Struct, frozen=True):
    """One physical line of an instruction, without its continuation sign."""

    text: str
    line: int


class Instruction(Struct, frozen=True):
    """One instruction, its continuation lines in order."""

    name: str
    pieces: tuple[Piece, ...]

    @property
    def line(self) -> int:
        """Return the line that it begins at."""
        return self.pieces[0].line

    @property
    def text(self) -> str:
        """Return its arguments as one line."""
        return "".join(piece.text for piece in self.pieces).strip()


class Form(Struct, frozen=True, omit_defaults=True):
    """What CMD or ENTRYPOINT say: words, or a shell's text."""

    line: int
    words: tuple[Word, ...] = ()
    shell: str | None = None


class Stage(Struct):
    """A build stage as far as it has come."""

    base: str
    entrypoint: Form | None = None
    command: Form | None = None
    variables: dict[str, Variable] = {}
    arguments: dict[str, str] = {}
    folder: str = ""
    user: str = ""
    notes: list[Note] = []
    has_command: bool = False  #: set in this stage, and not by the image it starts from


def read(host: Host, path: str, options: Options | None = None) -> Launch:
    """Return the launch that `docker run` of the image makes; raise LaunchUnreadable with the line."""
    stage = last_stage(whole(host, path), path)
    draft = Draft(host, path, options)
    draft.nearby = nearby(host, path)
    draft.container = Container("dockerfile", stage.base)
    return started(draft, stage, path, None, None)


def started(
    draft: Draft, stage: Stage, path: str, entrypoint: list[Word] | None, command: list[Word] | None
) -> Launch:
    """Return the launch of an image; `entrypoint` and `command` are what replaces its own."""
    from cudadoctor.launch.commands import follow
    from cudadoctor.launch.script import read_shell

    given = draft.variables
    draft.clean, draft.variables = True, {**stage.variables, **given}
    draft.folder = draft.folder or stage.folder
    draft.notes += stage.notes
    if draft.container is not None and stage.user and not draft.container.user:
        draft.container = structs.replace(draft.container, user=stage.user)
    first, then = stage.entrypoint, stage.command
    if entrypoint is not None:
        first, then = Form(0, tuple(entrypoint)), None
    if command is not None:
        then = Form(0, tuple(command))
    if first is not None and first.shell is not None:
        if then is not None:
            text = "CMD is not used: an ENTRYPOINT run by a shell takes no arguments"
            draft.note(text, f"{path}:{then.line or first.line}", "cmd-ignored")
        return read_shell(draft, first.shell, f"{path}:{first.line}")
    begins = list(first.words) if first is not None else []
    if then is not None and then.shell is not None and not begins:
        _against_entrypoint(draft, stage, then, path)
        return read_shell(draft, then.shell, f"{path}:{then.line}")
    words = [*begins, *_words(then, path)]
    if first is None:
        words = containers.of_image(draft, stage.base, words)
    _unexpanded(draft, words)
    at = len(words) - len(_words(then, path))
    spans = {"CMD": (at, len(words)), "ENTRYPOINT": (0, at)}
    draft.notes = [
        structs.replace(note, span=spans[note.text.partition(" ")[0]])
        if note.name == "cmd-not-json"
        else note
        for note in draft.notes
    ]
    return follow(draft, words) if words else draft.other(words, "nothing says what the image runs")


def _words(form: Form | None, path: str) -> list[Word]:
    if form is None:
        return []
    if form.shell is None:
        return list(form.words)
    origin = f"{path}:{form.line}"
    return [Word("/bin/sh", origin), Word("-c", origin), Word(form.shell, origin)]


def _against_entrypoint(draft: Draft, stage: Stage, form: Form, path: str) -> None:
    begins = containers.entrypoint(stage.base, [])
    if begins and stage.entrypoint is None:
        text = (
            f"the image's entrypoint is {' '.join(begins)}, and this CMD a text for /bin/sh: "
            "the shell's name and -c become arguments of vLLM"
        )
        draft.note(text, f"{path}:{form.line}", "cmd-for-shell")


def _unexpanded(draft: Draft, words: list[Word]) -> None:
    """Say where an array has a variable in it, which nothing replaces."""
    if words and words[0].text.rpartition("/")[2] in ("sh", "bash", "dash", "env"):
        return
    for word in words:
        if match := _VARIABLE.search(word.text):
            text = f"{word.text[match.start() :]} stays as it is: no shell runs a command written as an array"
            draft.note(text, word.origin, "variable-literal")


# --- reading ------------------------------------------------------------------------------------------------


def last_stage(text: str, path: str, arguments: Mapping[str, str] | None = None, target: str = "") -> Stage:
    """Return the last build stage, or the one called `target`; `arguments` are those of the build."""
    given = dict(arguments or {})
    stages: dict[str, Stage] = {}
    before: dict[str, str] = {}  #: ARGs in front of the first FROM
    stage: Stage | None = None
    for instruction in instructions(text, path):
        if instruction.name == "FROM":
            if stage is not None and target and target in stages:
                break
            stage = _from(instruction, path, stages, before)
        elif instruction.name == "ARG" and stage is None:
            _argument(instruction, path, before, {}, given, {})
        elif stage is None:
            raise LaunchUnreadable(f"{path}:{instruction.line}: {instruction.name} stands in front of FROM")
        else:
            _carry_out(instruction, path, stage, before, given)
    if target and target not in stages:
        raise LaunchUnreadable(f"{path}: no stage is called {target!r}{nearest(target, stages)}")
    if stage is None:
        raise LaunchUnreadable(f"{path}: no FROM in it, so this is no Dockerfile")
    return stages[target] if target else stage


def instructions(text: str, path: str) -> Iterator[Instruction]:
    """Yield the instructions; raise LaunchUnreadable for a word that is none."""
    directive = re.match(r"(?:#[^\n]*\n)*?#\s*escape\s*=\s*([`\\])", text)
    escape = directive[1] if directive else "\\"
    continued = re.compile(re.escape(escape) + r"[ \t]*$")
    lines = text.split("\n")
    at = 0
    while at < len(lines):
        pieces: list[Piece] = []
        while at < len(lines):
            line, at = lines[at], at + 1
            bare = line.lstrip()
            if bare.startswith("#") or (not bare and pieces):
                continue  # a comment ends no continuation, nor does an empty line
            more = continued.search(line)
            pieces.append(Piece(line[: more.start()] if more else line, at))
            if not more:
                break
        if not any(piece.text.strip() for piece in pieces):
            continue
        instruction = _instruction(pieces, path)
        yield instruction
        if instruction.name in ("RUN", "COPY", "ADD"):
            at = _past_documents(instruction.text, lines, at)


def _instruction(pieces: list[Piece], path: str) -> Instruction:
    first = pieces[0]
    name, _, rest = first.text.strip().partition(" ")
    tabbed, _, more = name.partition("\t")
    rest = f"{more} {rest}" if more else rest
    if tabbed.upper() not in _INSTRUCTIONS:
        hint = ": does the line before it lack a backslash at its end?" if tabbed[:1] in "\"'[]-," else ""
        hint = hint or nearest(tabbed.upper(), _INSTRUCTIONS)
        raise LaunchUnreadable(f"{path}:{first.line}: {tabbed[:40]!r} is no instruction{hint}")
    return Instruction(tabbed.upper(), (Piece(rest, first.line), *pieces[1:]))


def _past_documents(text: str, lines: list[str], at: int) -> int:
    for delimiter in _HEREDOC.findall(text):
        while at < len(lines) and lines[at].strip() != delimiter:
            at += 1
        at += 1
    return at


def _from(instruction: Instruction, path: str, stages: dict[str, Stage], before: dict[str, str]) -> Stage:
    words = [word for word in instruction.text.split() if not word.startswith("--")]
    if not words:
        raise LaunchUnreadable(f"{path}:{instruction.line}: FROM names no image")
    image = Interpolation(before.get, "\\$", path).put(words[0], instruction.line)
    earlier = stages.get(image.lower())
    stage = Stage(image, None, None, {}, {}, "", "", [])
    if earlier is not None:
        stage = Stage(
            earlier.base, earlier.entrypoint, earlier.command, dict(earlier.variables), {}, earlier.folder,
            earlier.user, list(earlier.notes),
        )  # fmt: skip
    if len(words) > 2 and words[1].lower() == "as":
        stages[words[2].lower()] = stage
    stages[str(sum(not name.isdigit() for name in stages) + len(stages))] = stage
    return stage


def _carry_out(
    instruction: Instruction, path: str, stage: Stage, before: dict[str, str], given: dict[str, str]
) -> None:
    def lookup(name: str) -> str | None:
        held = stage.variables.get(name)
        return held.value if held is not None else stage.arguments.get(name)

    line = instruction.line
    put = Interpolation(lookup, "\\$", path).put
    if instruction.name == "ARG":
        held = {name: variable.value for name, variable in stage.variables.items()}
        _argument(instruction, path, stage.arguments, before, given, held)
    elif instruction.name == "ENV":
        for name, value, at in _pairs(instruction):
            stage.variables[name] = Variable(put(value, at), f"{path}:{at}")
    elif instruction.name == "WORKDIR":
        folder = put(instruction.text, line).strip("\"'")
        stage.folder = folder if folder.startswith("/") else f"{stage.folder.rstrip('/')}/{folder}"
    elif instruction.name == "USER":
        stage.user = put(instruction.text, line)
    elif instruction.name == "CMD":
        stage.command, stage.has_command = _form(instruction, path, stage), True
    elif instruction.name == "ENTRYPOINT":
        stage.entrypoint = _form(instruction, path, stage)
        if not stage.has_command:
            stage.command = None  # what the image it starts from would have run


def _argument(
    instruction: Instruction,
    path: str,
    into: dict[str, str],
    before: dict[str, str],
    given: dict[str, str],
    held: dict[str, str],
) -> None:
    put = Interpolation(lambda name: held.get(name, into.get(name)), "\\$", path).put
    for match in re.finditer(r"(\w+)(?:=(\"[^\"]*\"|'[^']*'|\S*))?", instruction.text):
        name, value = match[1], match[2]
        if name in given:
            into[name] = given[name]
        elif value is not None:
            into[name] = put(value.strip("\"'"), instruction.line)
        elif name in before:
            into[name] = before[name]


def _pairs(instruction: Instruction) -> Iterator[tuple[str, str, int]]:
    """Yield name, value and line of ENV, in the form with "=" and in the old one without."""
    old = re.fullmatch(r"([A-Za-z_]\w*)[ \t]+(?!=)(.*)", instruction.text, re.DOTALL)
    if old and "=" not in instruction.text.split()[0]:
        yield old[1], old[2].strip(), instruction.line
        return
    for piece in instruction.pieces:
        for match in re.finditer(
            r"([A-Za-z_]\w*)=((?:\"(?:[^\"\\]|\\.)*\"|'[^']*'|\\.|[^\s\"'])*)", piece.text
        ):
            yield match[1], _unquoted(match[2]), piece.line


def _unquoted(text: str) -> str:
    def inner(match: re.Match[str]) -> str:
        if match[0].startswith("'"):
            return match[0][1:-1]
        if match[0].startswith('"'):
            return re.sub(r"\\([\"\\])", r"\1", match[0][1:-1])
        return match[0][1:]

    return re.sub(r"\"(?:[^\"\\]|\\.)*\"|'[^']*'|\\[^$]", inner, text)


def _form(instruction: Instruction, path: str, stage: Stage) -> Form:
    """Return the words of an array, or the text of a shell; an array that is no JSON is one too."""
    text, line = instruction.text, instruction.line
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if isinstance(found, list):
        if not all(isinstance(each, str) for each in found):
            raise LaunchUnreadable(
                f"{path}:{line}: docker takes only texts in the array of {instruction.name}"
            )
        strings = [piece for piece in _strings(instruction) if piece[0].startswith('"')]
        lines = [at for _, at in strings] if len(strings) == len(found) else [line] * len(found)
        return Form(line, tuple(Word(each, f"{path}:{at}") for each, at in zip(found, lines, strict=True)))
    if not text.startswith("["):
        return Form(line, shell=_as_script(instruction))
    return Form(line, _meant(instruction, path, stage))


def _meant(instruction: Instruction, path: str, stage: Stage) -> tuple[Word, ...]:
    """Return what an array that is no JSON was meant to be, with a note of what it is."""
    commented = next((piece for piece in instruction.pieces if _COMMENT.search(piece.text)), None)
    because = "a comment stands in it" if commented else "quotes or commas are not as JSON has them"
    program = (instruction.text.split() or ["["])[0]
    text = (
        f"{instruction.name} looks like an array and is no JSON ({because}): /bin/sh runs it as a text, "
        f"and finds no program called {program!r}"
    )
    at = commented.line if commented else instruction.line
    stage.notes.append(Note(text, f"{path}:{at}", "cmd-not-json"))
    return tuple(Word(_literal(string), f"{path}:{at}") for string, at in _strings(instruction, bare=True))


def _strings(instruction: Instruction, bare: bool = False) -> Iterator[tuple[str, int]]:
    """Yield the quoted texts of an instruction with their lines."""
    for piece in instruction.pieces:
        text = _COMMENT.sub("", piece.text) if bare else piece.text
        for match in _STRING.finditer(text):
            yield match[0], piece.line


def _literal(string: str) -> str:
    try:
        return str(json.loads(string))
    except ValueError:
        return string[1:-1]


def _as_script(instruction: Instruction) -> str:
    """Return a shell's text whose lines are those of the file."""
    out, line = "", instruction.line
    for piece in instruction.pieces:
        out += "\\\n" * (piece.line - line) + piece.text
        line = piece.line
    return out
