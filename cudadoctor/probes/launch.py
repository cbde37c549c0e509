"""The launch that was asked about, read from a command line or a file. Nothing of it is executed."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from msgspec import structs

from cudadoctor.facts import Environ, Given, Launch, Packages, Target, Variable
from cudadoctor.facts.launch import Refused
from cudadoctor.host import Host
from cudadoctor.probes.target import Asked, Request
from cudadoctor.secrets import SECRET, in_text, in_words, is_secret, without

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


def without_secrets(launch: Launch) -> Launch:
    """Return the launch with no key or token in it: no check needs more than whether one is given.

    What is empty stays so, and numbers (`--max-num-batched-tokens`, MAX_TOKENS) are none.
    """
    told: set[str] = set()
    options = {name: _option(name, given, told) for name, given in launch.options.items()}
    variables = {name: _variable(name, held, told) for name, held in launch.variables.items()}
    nearby = {name: _variable(name, held, told) for name, held in launch.nearby.items()}
    argv = in_words(launch.argv, told)
    wrappers = tuple(_wrapper(wrapper, told) for wrapper in launch.wrappers)
    # Now that all are known: what is quoted, or was put into another value, is one of them.
    notes = tuple(structs.replace(note, text=without(note.text, told)) for note in launch.notes)
    return structs.replace(
        launch,
        argv=tuple(without(word, told) for word in argv),
        options={name: _again(given, told) for name, given in options.items()},
        variables=_without(variables, told),
        nearby=_without(nearby, told),
        wrappers=tuple(without(wrapper, told) for wrapper in wrappers),
        refused=tuple(_refused(each, told) for each in launch.refused),
        notes=notes,
        partial=without(launch.partial, told),
        doubtful={name: without(reason, told) for name, reason in launch.doubtful.items()},
    )


def _option(name: str, given: Given, told: set[str]) -> Given:
    values = tuple(SECRET if is_secret(name, value) else in_text(value, told) for value in given.values)
    told.update(old for old, new in zip(given.values, values, strict=True) if new == SECRET != old)
    return structs.replace(given, values=values)


def _variable(name: str, held: Variable, told: set[str]) -> Variable:
    if not is_secret(name, held.value):
        return Variable(in_text(held.value, told), held.origin)
    told.add(held.value)
    return Variable(SECRET, held.origin)


def _wrapper(command: str, told: set[str]) -> str:
    """Return the words of a wrapper, which are quoted for a shell, without a secret."""
    try:
        words = shlex.split(command)
    except ValueError:
        return in_text(command, told)
    masked = in_words(words, told)
    return command if list(masked) == words else shlex.join(masked)


def _again(given: Given, told: set[str]) -> Given:
    values = tuple(without(value, told) for value in given.values)
    return structs.replace(given, values=values, reason=without(given.reason, told))


def _without(variables: dict[str, Variable], told: set[str]) -> dict[str, Variable]:
    return {name: Variable(without(held.value, told), held.origin) for name, held in variables.items()}


def _refused(refused: Refused, told: set[str]) -> Refused:
    """Return an option that is not taken; an unknown one may be of a secret's name."""
    value = SECRET if is_secret(refused.name, refused.value) else refused.value
    value = without(in_text(value, told), told)
    return structs.replace(refused, value=value, spelled=without(refused.spelled, told))
