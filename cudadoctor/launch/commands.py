"""A command as it was typed: what is wrapped around vLLM is taken off, and remembered.

Nothing is run. A file is read only where the command names it: a script, an env file, a config.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from msgspec import structs

from cudadoctor.facts.launch import Launch, Note
from cudadoctor.host import Host
from cudadoctor.launch import containers, wrappers
from cudadoctor.launch.draft import Draft
from cudadoctor.launch.texts import COMMAND_LINE, LaunchUnreadable, Word, whole

if TYPE_CHECKING:
    from cudadoctor.launch.options import Options

_ASSIGNMENT = re.compile(r"([A-Za-z_]\w*)=(.*)", re.DOTALL)
_PYTHON = re.compile(r"python[\d.]*t?|pypy[\d.]*")
_SHELLS = frozenset(("sh", "bash", "dash", "zsh", "ksh", "ash"))
_MODULES = {
    "vllm.entrypoints.openai.api_server": "vllm-api-server",
    "vllm.entrypoints.cli.main": "vllm",
}
_LAYERS = 32
_SCRIPT_HEAD = 1 << 12

Next = tuple[list[Word], Launch | None]


def read(host: Host, argv: Sequence[str], options: Options | None = None) -> Launch:
    """Return the launch that a command line is; a file that it names and that cannot be read is noted."""
    return follow(Draft(host, options=options), [Word(text, COMMAND_LINE) for text in argv])


def follow(draft: Draft, words: list[Word]) -> Launch:
    """Take off one wrapper after the other. What cannot be read makes it another command, with a note."""
    for _ in range(_LAYERS):
        words = _assignments(draft, words)
        if not words:
            return draft.other(words, "no command follows")
        try:
            words, done = _step(draft, words)
        except LaunchUnreadable as error:
            draft.note(str(error), words[0].origin, "unreadable")
            return draft.launch("other", words)
        if done is not None:
            return _told(done)
    return draft.other(words, f"more than {_LAYERS} wrappers around it")


def _told(launch: Launch) -> Launch:
    """Return a launch of what is not followed with a note, where vLLM may be started by it."""
    if not launch.may_start_vllm or any(note.name in ("not-followed", "unreadable") for note in launch.notes):
        return launch
    text = f"what {launch.argv[0]} starts is not followed, and vLLM is named in it: it is not judged here"
    return structs.replace(launch, notes=(*launch.notes, Note(text, launch.source, "not-followed")))


def known(text: str) -> bool:
    """Return whether this is a program that this reader knows: where a wrapper's own words may end."""
    name = text.rpartition("/")[2]
    return bool(
        name == "vllm"
        or name in _STEPS
        or name in _SHELLS
        or name in {wrapper.partition(" ")[0] for wrapper in wrappers.WRAPPERS}
        or _PYTHON.fullmatch(name)
        or name.endswith((".py", ".sh"))
    )


def _step(draft: Draft, words: list[Word]) -> Next:
    name = words[0].text.rpartition("/")[2]
    if _PYTHON.fullmatch(name):
        return _python(draft, words)
    if name in _SHELLS:
        return _shell(draft, words)
    if name in _STEPS:
        return _STEPS[name](draft, words)
    for length in (3, 2, 1):
        wrapper = " ".join([name, *(word.text for word in words[1:length])])
        if len(words) >= length and wrapper in wrappers.WRAPPERS:
            return _wrapped(draft, words, wrapper, length)
    return _script(draft, words)


def _assignments(draft: Draft, words: list[Word]) -> list[Word]:
    """Take the leading VAR=value off."""
    at = 0
    while at < len(words) and (match := _ASSIGNMENT.fullmatch(words[at].text)):
        draft.assign(match[1], match[2], words[at].origin)
        at += 1
    return words[at:]


def _wrapped(draft: Draft, words: list[Word], name: str, length: int) -> Next:
    own, rest = wrappers.split(words, length, wrappers.WRAPPERS[name], known)
    draft.passed(own)
    if name.startswith("uv"):
        return _uv(draft, own, rest, name)
    for folder in wrappers.given(own[length:], "--cwd", "--chdir", *(["-D"] if name == "sudo" else [])):
        draft.into(folder.text)
    if name == "flock" and rest and own[-1].text in ("-c", "--command"):
        return [Word("sh", rest[0].origin), Word("-c", rest[0].origin), rest[0]], None
    return rest, None if rest else draft.other(words, f"no command follows {name}")


def _uv(draft: Draft, own: list[Word], rest: list[Word], name: str) -> Next:
    """See uv's own ways: a module or a script without the word python, and files of variables."""
    for folder in wrappers.given(own, "--directory"):
        draft.into(folder.text)
    for file in wrappers.given(own, "--env-file"):
        from cudadoctor.launch.dotenv import assignments

        path = draft.path(file.text)
        for line, key, value in assignments(whole(draft.host, path), path, draft.inherited):
            if draft.inherited(key) is None:  # what is set already is left alone
                draft.assign(key, value, f"{path}:{line}")
    if not rest:
        return rest, draft.other(own, f"no command follows {name}")
    flags = {word.text for word in own}
    if name == "uv run" and flags & {"-m", "--module"}:
        return [Word("python", rest[0].origin), rest[0].with_text("-m"), *rest], None
    if name == "uv run" and (flags & {"-s", "--script"} or rest[0].text.endswith(".py")):
        return [Word("python", rest[0].origin), *rest], None
    return rest, None


def _env(draft: Draft, words: list[Word]) -> Next:
    at = 1
    while at < len(words) and (words[at].text.startswith("-") or _ASSIGNMENT.fullmatch(words[at].text)):
        word = words[at]
        at += 1
        if word.text == "--":
            continue
        if match := _ASSIGNMENT.fullmatch(word.text):
            draft.assign(match[1], match[2], word.origin)
            continue
        name, value = _option(word, ["-u", "--unset", "-C", "--chdir", "-S", "--split-string"])
        if name and value is None:
            value = words[at].text if at < len(words) else ""
            at += 1
        if name in ("-S", "--split-string"):
            return _split(word, value or "") + words[at:], None
        _env_option(draft, word.text, name, value or "")
    draft.wrappers.append("env")
    return words[at:], None if words[at:] else draft.other(words, "no command follows env")


def _env_option(draft: Draft, text: str, name: str, value: str) -> None:
    if name in ("-u", "--unset"):
        draft.forget(value)
    elif name in ("-C", "--chdir"):
        draft.into(value)
    elif text in ("-", "-i", "--ignore-environment", "-0i", "-iv", "-vi"):
        draft.clean, draft.variables, draft.unset, draft.doubtful = True, {}, {}, {}


def _option(word: Word, valued: Sequence[str]) -> tuple[str, str | None]:
    """Return which of these options a word is, and the value where the word itself has it."""
    for name in valued:
        if word.text == name:
            return name, None
        if name.startswith("--") and word.text.startswith(f"{name}="):
            return name, word.text[len(name) + 1 :]
        if not name.startswith("--") and word.text.startswith(name) and not word.text.startswith("--"):
            return name, word.text[2:]
    return "", None


def _split(word: Word, text: str) -> list[Word]:
    import shlex

    try:
        return [word.with_text(piece) for piece in shlex.split(text)]
    except ValueError as error:
        raise LaunchUnreadable(f"{word.origin}: {text!r}: {error}") from None


def _vllm(draft: Draft, words: list[Word]) -> Next:
    from cudadoctor.launch.arguments import served

    if len(words) > 1 and words[1].text == "serve":
        return words, served(draft, "vllm-serve", words, 2)
    return words, draft.other(words, "this does not start a server")


def _python(draft: Draft, words: list[Word]) -> Next:
    at = 1
    while at < len(words) and words[at].text.startswith("-"):
        text = words[at].text
        if text.startswith("-m") or (
            not text.startswith("--") and text.endswith("m") and text[1:-1].isalpha()
        ):
            module = [words[at].with_text(text[2:])] if len(text) > 2 and text.startswith("-m") else []
            return _module(draft, words[:1], [*module, *words[at + 1 :]])
        if text.startswith("-c") or text == "-":
            return words, draft.other(words, "a program given by -c is not read")
        at += 2 if text in ("-W", "-X", "--check-hash-based-pycs") else 1
    if at == len(words):
        return words, draft.other(words, "this starts an interactive Python")
    return _python_file(draft, words, at)


def _module(draft: Draft, python: list[Word], rest: list[Word]) -> Next:
    from cudadoctor.launch.arguments import served

    name = _MODULES.get(rest[0].text) if rest else None
    whole_command = [*python, Word("-m", python[0].origin), *rest]
    if rest and rest[0].text == "cudadoctor":
        return rest, None
    if name == "vllm":
        if len(rest) > 1 and rest[1].text == "serve":
            return rest, served(draft, "vllm-serve", whole_command, 4)
        return rest, draft.other(whole_command, "this does not start a server")
    if name:
        return rest, served(draft, "vllm-api-server", whole_command, 3)
    if rest and rest[0].text in ("torch.distributed.run", "torch.distributed.launch"):
        return _torchrun(draft, rest)
    return rest, draft.other(whole_command)


def _python_file(draft: Draft, words: list[Word], at: int) -> Next:
    """Read a Python program; the `vllm` of an environment is one too."""
    from cudadoctor.launch.python_source import read_python

    word = words[at]
    if word.text.rpartition("/")[2] == "vllm":
        return words[at:], None
    path = draft.path(word.text)
    if draft.container is not None:
        return words, draft.other(words, f"{word.text} is a file of the image, which cannot be looked into")
    if not draft.deeper(path, word.origin):
        return words, draft.other(words)
    draft.passed(words[: at + 1])
    return words, read_python(draft, whole(draft.host, path), path)


def _shell(draft: Draft, words: list[Word]) -> Next:
    """Follow `bash -c TEXT` and `bash FILE`."""
    from cudadoctor.launch.script import read_shell

    at, text = 1, ""
    while at < len(words) and words[at].text[:1] in ("-", "+") and words[at].text != "--":
        text, at = words[at].text, at + 1
        if not text.startswith("--") and "c" in text:
            break
        at += text in ("-o", "-O", "+o", "--rcfile", "--init-file")
    else:
        text = ""
    at += at < len(words) and words[at].text == "--"
    if at >= len(words):
        return words, draft.other(words, "this starts an interactive shell")
    if not draft.deeper(words[at].text, words[at].origin):
        return words, draft.other(words)
    if text:
        draft.passed(words[:at])
        return words, read_shell(draft, words[at].text, words[at].origin, words[at + 2 :])
    return _script(draft, words[at:], words[:at])


def _script(draft: Draft, words: list[Word], shell: Sequence[Word] = ()) -> Next:
    """Follow a script that is named as a program, where it can be read."""
    from cudadoctor.launch.script import read_shell

    word = words[0]
    if draft.container is not None and ("/" in word.text or word.text.endswith(".sh") or shell):
        return words, draft.other(words, f"{word.text} is a file of the image, which cannot be looked into")
    if "/" not in word.text and not shell:
        return words, draft.other([*shell, *words])
    path = draft.path(word.text)
    first = b"" if shell else _first_line(draft.host, path)
    if not shell and re.match(rb"#!.*\b(python[\d.]*)\b", first):
        return [Word("python", word.origin), *words], None
    if not shell and not re.match(rb"#!.*\b(ba|da|z|k|a)?sh\b", first):
        return words, draft.other(words)
    if not draft.deeper(path, word.origin):
        return words, draft.other(words)
    draft.passed([*shell, word])
    return words, read_shell(draft, whole(draft.host, path), path, words[1:])


def _first_line(host: Host, path: str) -> bytes:
    try:
        return host.head(path, _SCRIPT_HEAD).partition(b"\n")[0]
    except OSError:
        return b""


def _torchrun(draft: Draft, words: list[Word]) -> Next:
    at = 1
    module = bare = False
    while at < len(words) and words[at].text.startswith("-"):
        text = words[at].text
        module = module or text in ("-m", "--module")
        bare = bare or text in ("--no-python", "--no_python")
        at += 1 if "=" in text or text in wrappers.TORCHRUN_FLAGS else 2
    rest = words[at:]
    draft.passed(words[:at])
    if not rest:
        return rest, draft.other(words, "no command follows torchrun")
    if bare:
        return rest, None
    return [Word("python", rest[0].origin), *([Word("-m", rest[0].origin)] if module else []), *rest], None


def _container(draft: Draft, words: list[Word]) -> Next:
    begin = containers.command(words)
    if "compose" in (word.text for word in words[1:2]):
        return _composed(draft, words, 2)
    if not begin:
        return words, draft.other(words, f"this {words[0].text} command starts no container")
    found, at = containers.options(words, begin)
    if at >= len(words):
        return words, draft.other(words, "no image is named")
    containers.variables(draft, found)
    draft.passed(words[: at + 1])
    engine = "podman" if "podman" in words[0].text else "docker"
    container = containers.described(found, engine, words[at].text)
    rest = containers.inside(draft, container, found, words[at + 1 :])
    return rest, None if rest else draft.other(words)


#: Of https://docs.docker.com/reference/cli/docker/compose.md, read 2026-11-21.
_COMPOSE_VALUED = frozenset((
    "--ansi", "--env-file", "-p", "--parallel", "--profile", "--progress", "--project-directory",
    "--project-name",
))  # fmt: skip


def _composed(draft: Draft, words: list[Word], at: int) -> Next:
    """Follow `docker compose [-f FILE] up [SERVICE]`; a project of several files is not put together."""
    from cudadoctor.launch import compose

    files: list[str] = []
    while at < len(words) and words[at].text.startswith("-"):
        name, value = _option(words[at], ("-f", "--file"))
        text, at = words[at].text, at + 1
        if (name and value is None) or text in _COMPOSE_VALUED:
            value, at = (words[at].text if at < len(words) else ""), at + 1
        files += [value] if name and value else []
    if at >= len(words) or words[at].text != "up":
        return words, draft.other(words, "this compose command starts no container")
    service = next((word.text for word in words[at + 1 :] if not word.text.startswith("-")), "")
    there = [name for name in compose.STANDARD if draft.host.kind(draft.path(name)) == "file"]
    path = draft.path((files or there or compose.STANDARD)[0])
    launch = compose.read(draft.host, path, service, draft.options)
    more = tuple(Note(f"{name} is not put together with it", path, "not-followed") for name in files[1:])
    wrappers = (*draft.wrappers, *launch.wrappers)
    return words, structs.replace(launch, wrappers=wrappers, notes=(*draft.notes, *launch.notes, *more))


def _cudadoctor(draft: Draft, words: list[Word]) -> Next:
    """See through `cudadoctor run`: what is behind it takes its place; the other commands start nothing."""
    if len(words) > 1 and words[1].text == "run":
        return _wrapped(draft, words, "cudadoctor run", 2)
    return words, draft.other(words, "this does not start a server")


def _docker_compose(draft: Draft, words: list[Word]) -> Next:
    return _composed(draft, words, 1)


_STEPS: dict[str, Callable[[Draft, list[Word]], Next]] = {
    "vllm": _vllm,
    "env": _env,
    "cudadoctor": _cudadoctor,
    "torchrun": _torchrun,
    "docker": _container,
    "podman": _container,
    "nerdctl": _container,
    "docker-compose": _docker_compose,
    "podman-compose": _docker_compose,
}
