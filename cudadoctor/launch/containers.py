"""`docker run` and `podman run`: their options, the image, and what the image does with its arguments.

The flags were read from `docker run --help` (28.2.2) and from podman 4's cmd/podman/common/create.go
(https://github.com/containers/podman, commit 02a77d27) on 2026-11-21: every other option takes a value.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from msgspec import structs

from cudadoctor.facts.launch import Container, Mount, Port
from cudadoctor.launch.draft import Draft
from cudadoctor.launch.texts import Word, whole

_FLAGS = frozenset((
    "--detach", "--disable-content-trust", "--help", "--init", "--interactive", "--no-healthcheck",
    "--oom-kill-disable", "--privileged", "--publish-all", "--quiet", "--read-only", "--rm",
    "--sig-proxy", "--tty", "--use-api-socket", "--env-host", "--http-proxy", "--read-only-tmpfs",
    "--replace", "--rootfs", "--tls-verify", "--unsetenv-all",
))  # fmt: skip
_SHORT_FLAGS = frozenset("ditPq")
_GLOBAL_FLAGS = frozenset(("-D", "--debug", "--tls", "--tlsverify", "-v", "--version", "--remote", "-r"))
_LONG = {
    "-e": "--env", "-p": "--publish", "-v": "--volume", "-m": "--memory", "-u": "--user", "-w": "--workdir",
    "-h": "--hostname", "-l": "--label", "-a": "--attach", "-c": "--cpu-shares", "--net": "--network",
}  # fmt: skip
_VERBS = (("run",), ("container", "run"), ("create",), ("container", "create"))


def command(words: list[Word]) -> int:
    """Return where the options of `docker run` begin in these words, or 0 where they say something else."""
    at = 1
    while at < len(words) and words[at].text.startswith("-"):
        at += 1 if words[at].text in _GLOBAL_FLAGS or "=" in words[at].text else 2
    for verb in _VERBS:
        if tuple(word.text for word in words[at : at + len(verb)]) == verb:
            return at + len(verb)
    return 0


def options(words: list[Word], begin: int) -> tuple[dict[str, list[Word]], int]:
    """Return the options by their long names, and where the image's name is."""
    found: dict[str, list[Word]] = {}
    at = begin
    while at < len(words) and words[at].text.startswith("-"):
        word = words[at]
        at += 1
        if word.text == "--":
            break
        name, value = _named(word.text)
        if name and value is None:
            value = words[at].text if at < len(words) else ""
            at += 1
        if name:
            found.setdefault(_LONG.get(name, name), []).append(word.with_text(value or ""))
    return found, at


def _named(text: str) -> tuple[str, str | None]:
    """Return an option's name and value; None for one that follows, no name for a flag."""
    if text.startswith("--"):
        name, equals, value = text.partition("=")
        return ("", None) if name in _FLAGS else (name, value if equals else None)
    for at, letter in enumerate(text[1:], 1):
        if letter not in _SHORT_FLAGS:  # -itp 8000:8000
            return f"-{letter}", text[at + 1 :].removeprefix("=") or None
    return "", None


def described(found: dict[str, list[Word]], engine: str, image: str) -> Container:
    """Return what the options give the container."""

    def last(name: str) -> str:
        return found[name][-1].text if name in found else ""

    gpus = last("--gpus") or next(
        (d.text for d in found.get("--device", ()) if "nvidia.com/gpu" in d.text), ""
    )
    mounts = [mount(word.text) for word in found.get("--volume", ())]
    mounts += filter(None, (_spelled_out(word.text) for word in found.get("--mount", ())))
    return Container(
        engine,
        image,
        shm_size=last("--shm-size"),
        ipc=last("--ipc"),
        network=last("--network"),
        memory=last("--memory"),
        gpus=gpus.strip('"'),
        runtime=last("--runtime"),
        user=last("--user"),
        platform=last("--platform"),
        ports=tuple(port(word.text) for word in found.get("--publish", ())),
        mounts=tuple(mounts),
    )


def port(text: str) -> Port:
    """Return "127.0.0.1:8000:8000/tcp" as a port."""
    sides = text.partition("/")[0]
    host, _, container = sides.rpartition(":")
    return Port(host.rpartition(":")[2], container)


def mount(text: str) -> Mount:
    """Return "/host/folder:/folder:ro" as a mount."""
    parts = text.split(":")
    if len(parts) == 1:
        return Mount("", parts[0])
    return Mount(parts[0], parts[1], "ro" in parts[2].split(",") if len(parts) > 2 else False)


def _spelled_out(text: str) -> Mount | None:
    """Return "type=bind,source=/a,target=/b,readonly" as a mount; None where it names no target."""
    pairs = {piece.partition("=")[0]: piece.partition("=")[2] for piece in text.split(",")}
    source = pairs.get("source") or pairs.get("src") or ""
    target = pairs.get("target") or pairs.get("destination") or pairs.get("dst") or ""
    read_only = any(pairs.get(name, "no") in ("", "true", "1") for name in ("readonly", "ro"))
    return Mount(source, target, read_only) if target else None


def variables(draft: Draft, found: dict[str, list[Word]]) -> None:
    """Set what `--env-file` and `--env` give the container; a bare name takes the caller's value along."""
    outside = draft.copied()
    draft.clean, draft.variables, draft.unset, draft.doubtful = True, {}, {}, {}
    for word in found.get("--env-file", ()):
        path = outside.path(word.text)
        for line, name, value in env_file(whole(draft.host, path)):
            _passed_on(draft, outside, name, value, f"{path}:{line}")
    for word in found.get("--env", ()):
        name, equals, value = word.text.partition("=")
        _passed_on(draft, outside, name, value if equals else None, word.origin)


def _passed_on(draft: Draft, outside: Draft, name: str, value: str | None, origin: str) -> None:
    if value is None and name in outside.doubtful:
        draft.doubt(name, outside.doubtful[name], origin)
        return
    if value is None:
        value = outside.inherited(name)
    if value is not None:
        draft.assign(name, value, origin)
    else:
        draft.note(f"{name} is not set, so the container does not get it", origin, "variable-absent")


def env_file(text: str) -> Iterable[tuple[int, str, str | None]]:
    """Yield line, name and value of docker's own env files: no quotes, no expansion; None: a bare name."""
    for number, line in enumerate(text.split("\n"), 1):
        line = line.lstrip().rstrip("\r")
        if line and not line.startswith("#"):
            name, equals, value = line.partition("=")
            yield number, name.strip(), value if equals else None


# --- images -------------------------------------------------------------------------------------------------

#: vLLM's docker/Dockerfile, in the source distributions of 0.6.6, 0.8.5 and 0.10.2 (the API server) and of
#: 0.14.0, 0.16.0, 0.18.0, 0.20.0, 0.25.0, 0.29.0 and 0.33.0 (`vllm serve`), read 2026-11-21.
_SERVER = ("python3", "-m", "vllm.entrypoints.openai.api_server")
_SERVE = ("vllm", "serve")
_LAST_SERVER, _FIRST_SERVE = (0, 10, 2), (0, 14)


def entrypoint(image: str, arguments: list[Word]) -> tuple[str, ...]:
    """Return the entrypoint of vLLM's own image; nothing for one that is not known here.

    Between the releases that were looked at it is the one that the arguments are written for.
    """
    name = re.sub(r"[:@][^/]*$", "", image).rpartition("/")[2]
    if name != "vllm-openai":
        return ()
    match = re.search(r":v?(\d+)\.(\d+)(?:\.(\d+))?[^/]*$", image)
    release = tuple(int(part) for part in match.groups("0")) if match else None
    if release is not None and release <= _LAST_SERVER:
        return _SERVER
    if release is None or release >= _FIRST_SERVE:
        return _SERVE
    return _SERVER if arguments and arguments[0].text.startswith("-") else _SERVE


def inside(
    draft: Draft, container: Container, found: dict[str, list[Word]], arguments: list[Word]
) -> list[Word]:
    """Enter the container and return the command that runs in it."""
    named = found.get("--entrypoint")
    draft.container = container
    draft.folder = found["--workdir"][-1].text if "--workdir" in found else ""
    if named:
        return [named[-1], *arguments] if named[-1].text else arguments
    return of_image(draft, container.image, arguments)


def of_image(draft: Draft, image: str, arguments: list[Word]) -> list[Word]:
    """Return the command that an image makes of its arguments."""
    begins = entrypoint(image, arguments)
    origin = arguments[0].origin if arguments else ""
    if begins:
        return [*(Word(text, f"the entrypoint of {image}") for text in begins), *arguments]
    image = image or "an image that is not named"
    if not arguments:
        draft.note(f"what {image} runs by itself is not known here", origin, "not-followed")
    elif arguments[0].text.startswith("-"):
        draft.note(f"what {image} does with its arguments is not known here", origin, "not-followed")
    return arguments


def of_service(container: Container, service: str) -> Container:
    """Return the container with the name of its compose service."""
    return structs.replace(container, service=service)
