"""See the check's own page."""

from __future__ import annotations

import re
from collections.abc import Iterator

from cudadoctor.declare import check
from cudadoctor.facts import Launch, Note
from cudadoctor.findings import Evidence, Finding, Remedy, Severity

_E, _W, _N = Severity.ERROR, Severity.WARNING, Severity.NOTE
#: How bad each is: an error ends the launch, with a warning it does something else than it looks, and a note
#: says what could not be looked at.
_SEVERITIES = {
    "cmd-not-json": _E,
    "cmd-for-shell": _E,
    "variable-required": _E,
    "cmd-ignored": _W,
    "config-ignored": _W,
    "model-ignored": _W,
    "operator-in-command": _W,
    "backslash-in-command": _W,
    "variable-literal": _W,
    "unreadable": _W,
    "variable-empty": _W,
    "variable-absent": _N,
    "value-unknown": _N,
    "several-launches": _N,
    "not-followed": _N,
}
_HELPS = {
    "cmd-for-shell": 'CMD ["--model", ...]: an array, so that the image\'s entrypoint gets its words',
    "cmd-ignored": 'ENTRYPOINT ["...", "..."] as an array, which takes what CMD says behind it',
    "config-ignored": "the option itself on the command line",
    "model-ignored": "--model in front of the name",
    "operator-in-command": 'command: ["bash", "-c", "..."], where a shell is wanted',
    "backslash-in-command": "the same without the backslashes: with `>` the lines are joined",
    "variable-literal": 'the array ["sh", "-c", "exec ..."], in which a shell puts the value',
    "several-launches": "--script on a file with the one that is meant",
}
#: What is looked at by hub-token-missing.
_TOKENS = re.compile(r"(?:HF_TOKEN|HUGGING_?FACE\w*_TOKEN|HF_HUB_TOKEN)\b")
_NAME = re.compile(r"[A-Za-z_]\w*")
_PROGRAM = re.compile(
    r"called (['\"])(.*)\1$"
)  #: of the note: the first word as it is written, with its quotes
_NAMED = re.compile(r": | is (?:not|known|set)\b")
_SECRET = "[secret]"
_COMMAND_LINE = "command line"  #: the source of a launch that no file tells


@check
def command_misread(launch: Launch) -> Iterator[Finding]:
    """The launch is written so that it does not run as it looks.

    ## What it means
    A `CMD` in a Dockerfile that looks like an array and is no JSON, as with a comment inside it, is a text
    for `/bin/sh`: `[python3,: not found`, and the container ends with 127. An array in which `$MODEL` stands
    gives the program these very characters, for no shell runs it. A compose command written as one text ends
    at `&&`. A variable that is set nowhere leaves an empty place. With a note, something was only not looked
    at: what it does is not judged here.

    ## How to tell
    `docker inspect --format '{{json .Config.Cmd}}' IMAGE`, `docker compose config`, `bash -x SCRIPT`

    ## What helps
    What is printed for each place.
    """
    for note in launch.notes:
        severity = _severity(launch, note)
        if severity is not None:
            evidence = (Evidence(note.origin or launch.source, _shown(note)),)
            yield Finding(_says(launch, note), severity, evidence, _remedies(launch, note))


def _severity(launch: Launch, note: Note) -> Severity | None:
    """Return how bad it is; None for what another check says, or nobody needs to be told."""
    if note.name.startswith("variable-") and _TOKENS.match(note.text):
        return None
    if note.name == "not-followed" and any(each.name == "cmd-for-shell" for each in launch.notes):
        return None  # that is why
    severity = _SEVERITIES.get(note.name)
    if launch.kind == "other" and launch.source == _COMMAND_LINE and severity is not _E:
        # A command that is none of vLLM's is not looked into; one that may start it is told.
        return _N if launch.may_start_vllm and note.name in ("not-followed", "unreadable") else None
    if note.name == "variable-empty" and launch.container is None:
        return Severity.NOTE  # a script may well use what is not always set
    return severity


def _shown(note: Note) -> str:
    """Return what stands at the place: as much of the note as names it."""
    return "CMD" if note.name == "cmd-for-shell" else _NAMED.split(note.text, maxsplit=1)[0]


def _says(launch: Launch, note: Note) -> str:
    if note.name == "cmd-for-shell":
        return f"vLLM will not start: {note.text}"
    if note.name != "cmd-not-json":
        return note.text
    instruction = note.text.partition(" ")[0]
    program = _program(note)
    if note.span[0] > 0:
        return f"{instruction} is no JSON, so what is in front of it gets /bin/sh, -c and a text as arguments"
    ends = f'"{program}: not found" (127)' if program != "[" else "an error of the shell's own `[` (2)"
    return f"{instruction} is no JSON, so /bin/sh runs it as a text: the container ends at once with {ends}"


def _program(note: Note) -> str:
    """Return what a shell takes for the program's name: the first word, without its quotes."""
    match = _PROGRAM.search(note.text)
    return re.sub("[\"']", "", match[2]) if match else "["


def _remedies(launch: Launch, note: Note) -> tuple[Remedy, ...]:
    if note.name == "cmd-not-json":
        return (Remedy("show", {}, _as_json(launch, note)),)
    if note.name in ("variable-empty", "variable-required", "variable-absent"):
        match = _NAME.match(note.text)
        where = ".env beside the file, or the environment" if launch.container else "the environment"
        return (Remedy("show", {}, f"{match[0]}=... in {where}"),) if match else ()
    text = _HELPS.get(note.name, "")
    return (Remedy("show", {}, text),) if text else ()


def _as_json(launch: Launch, note: Note) -> str:
    """Return the instruction as it has to be written: with its words, where they are all known."""
    instruction = note.text.partition(" ")[0]
    begin, end = note.span
    words = launch.argv[begin:end]
    if begin and words[:begin] == launch.argv[:begin]:
        words = words[begin:]  # the entrypoint says that already
    if not words or launch.wrappers or _SECRET in " ".join(words) or len(launch.notes) > 1:
        return f"{instruction} as JSON: double quotes, a comma between two words, no comment inside"
    return f"{instruction} [{', '.join(map(_quoted, words))}]"


def _quoted(word: str) -> str:
    escaped = re.sub(r'["\\]', r"\\\g<0>", word)
    return f'"{escaped}"'.replace("\n", "\\n").replace("\t", "\\t")
