"""The launch that was asked about, read from a command line or a file. Nothing of it is executed."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from msgspec import structs

from cudadoctor.facts import Environ, Given, Launch, Packages, Target, Variable
from cudadoctor.host import Host
from cudadoctor.probes.target import Asked, Request

if TYPE_CHECKING:
    from cudadoctor.launch.options import Options


def probe(host: Host, request: Request, target: Target, environ: Environ, packages: Packages) -> Launch:
    """Return the launch; raise LaunchUnreadable, a mistake of the user's, for a file that says none."""
    asked = request.launch or Asked()
    found = read(host, asked)
    if found.kind != "other" and (known := _options(host, packages)) is not None:
        found = read(host, asked, known)
    return without_secrets(found)


def read(host: Host, asked: Asked, known: Options | None = None) -> Launch:
    """Return the launch as it is written; without the options that are known they are not judged."""
    if asked.compose:
        from cudadoctor.launch import compose

        return compose.read(host, asked.compose, asked.service, known)
    if asked.dockerfile:
        from cudadoctor.launch import dockerfile

        return dockerfile.read(host, asked.dockerfile, known)
    if asked.script:
        from cudadoctor.launch import script

        return script.read(host, asked.script, known)
    from cudadoctor.launch import commands

    return commands.read(host, asked.argv, known)


def _options(host: Host, packages: Packages) -> Options | None:
    """Return the options of the installed vLLM, or None where none is installed or it cannot be read."""
    vllm = packages.find("vllm")
    if vllm is None:
        return None
    from cudadoctor.launch import options

    return options.read(host, vllm.location)


_SECRET = "[secret]"
_OPTION = re.compile(r"(?:^|-)(?:api-keys?|tokens?|secret|password)$")
_VARIABLE = re.compile(
    r"(?:^|_)(?:KEYS?|TOKENS?|SECRETS?|PASS|PASSWORD|PASSWD|AUTH|CREDENTIALS?)(?:_|$)|APIKEY"
)


def without_secrets(launch: Launch) -> Launch:
    """Return the launch with no key or token in it: no check needs more than whether one is given.

    What is empty stays so, and numbers (`--max-num-batched-tokens`, MAX_TOKENS) are none.
    """
    told: set[str] = set()
    options = {name: _masked(name, given, told) for name, given in launch.options.items()}
    variables = {name: _variable(name, held, told) for name, held in launch.variables.items()}
    nearby = {name: _variable(name, held, told) for name, held in launch.nearby.items()}
    argv = tuple(_word(word, told) for word in launch.argv)
    wrappers = tuple(_within(wrapper, told) for wrapper in launch.wrappers)
    return structs.replace(
        launch, options=options, variables=variables, nearby=nearby, argv=argv, wrappers=wrappers
    )


def _is_secret(value: str) -> bool:
    return bool(value) and not value.replace(".", "").isdecimal()


def _masked(name: str, given: Given, told: set[str]) -> Given:
    if _OPTION.search(name.replace("_", "-")) is None:
        return given
    told.update(filter(_is_secret, given.values))
    return structs.replace(given, values=tuple(_SECRET if _is_secret(v) else v for v in given.values))


def _variable(name: str, held: Variable, told: set[str]) -> Variable:
    if _VARIABLE.search(name) is None or not _is_secret(held.value):
        return held
    told.add(held.value)
    return Variable(_SECRET, held.origin)


def _word(word: str, told: set[str]) -> str:
    for secret in sorted(told, key=len, reverse=True):
        if word == secret or word.endswith(f"={secret}"):
            return f"{word[: -len(secret)]}{_SECRET}"
    return word


def _within(command: str, told: set[str]) -> str:
    for secret in sorted(told, key=len, reverse=True):
        command = command.replace(f"={secret}", f"={_SECRET}")
    return command
