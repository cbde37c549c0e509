"""See the check's own page."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from cudadoctor.declare import CannotTell, Skip, check
from cudadoctor.facts import Builds, Environ, Launch, Packages, UnknownVariable
from cudadoctor.findings import Evidence, Finding, Remedy, Severity
from cudadoctor.knowledge import vllm
from cudadoctor.knowledge.vllm import BACKEND


@check
def vllm_variable_ignored(
    packages: Packages, builds: Builds, environ: Environ, launch: Launch | None = None
) -> Iterator[Finding]:
    """A variable called VLLM_* is set that the installed vLLM does not read, or stops at.

    ## What it means
    vLLM reads the variables that its `vllm/envs.py` lists, and a few that other files of it name. One of an
    older release, or with a slip in its name, has no effect, and up to 0.16 nobody says so:
    `VLLM_ATTENTION_BACKEND` is read up to 0.14 and nowhere from 0.15 on. A variable that is no release's is a
    note: a script or a compose file may have it for itself. The value of `VLLM_ATTENTION_BACKEND` has to be a
    backend's name to the letter in 0.11.1 to 0.14, or vLLM stops: `XFORMERS` is none since 0.12, and names
    with `_VLLM_V1` at their end are those of older releases. What a launch sets for itself counts with them.

    ## How to tell
    `python -c "import vllm.envs as e; print('VLLM_ATTENTION_BACKEND' in e.environment_variables)"`.

    ## What helps
    The option that took its place, the right name, or no such variable.
    """
    found = packages.find("vllm")
    if found is None:
        raise Skip("vllm is not installed")
    if launch is not None and launch.contained:
        _leave_to_the_image(launch)
    if (value := environ.get(BACKEND)) is not None:
        yield from _stops(value, found.version, builds, environ, launch)
    others = [each.name for each in packages.distributions if each.name.startswith("vllm-")]
    rest = []
    for each in builds.vllm_unknown:
        last = vllm.last_read(each.name)
        if last and vllm.is_default(each.name, environ.get(each.name) or ""):
            continue
        if last:
            yield _gone(each, last, found.version, builds, environ, launch)
        elif each.typo:
            yield _misspelt(each, found.version, builds, environ)
        elif not others:  # a plug-in of vLLM's reads variables of its own
            rest.append(each)
    if rest:
        yield _unknown(rest, found.version, builds, environ)


def _leave_to_the_image(launch: Launch) -> None:
    """Raise what a launch deserves whose vLLM is that of a container."""
    if any(name.startswith("VLLM_") for name in launch.variables):
        raise CannotTell(
            f"which variables the vLLM of {launch.image or 'the container'} reads is not known here"
        )
    raise Skip("the launch runs in a container, which gets none of these variables")


def _without(name: str, launch: Launch | None) -> str:
    return f"leave {name} out" if launch is not None and name in launch.variables else f"unset {name}"


def _stops(
    value: str, version: str, builds: Builds, environ: Environ, launch: Launch | None
) -> Iterator[Finding]:
    from cudadoctor.knowledge.attention import stops_at

    if not (better := stops_at(version, value)):
        return
    without = Remedy("show", {}, _without(BACKEND, launch))
    named = Remedy("show", {}, f"{BACKEND}={better}", instead=(without,))
    yield Finding(
        f"vLLM {version} will stop at {BACKEND}={value}: it has no attention backend of that name",
        Severity.ERROR,
        (
            Evidence(environ.where(BACKEND), f"{BACKEND}={value}"),
            Evidence(builds.vllm_envs, "takes the name of a backend, to the letter"),
        ),
        (without if better == "nothing" else named,),
    )


def _gone(
    each: UnknownVariable, last: str, version: str, builds: Builds, environ: Environ, launch: Launch | None
) -> Finding:
    remedies = [Remedy("show", {}, _without(each.name, launch))]
    if option := vllm.INSTEAD.get(each.name):
        value = shlex.quote(environ.get(each.name) or "")
        remedies.insert(0, Remedy("show", {}, f"vllm serve ... {option} {value}"))
    return Finding(
        f"{each.name} has no effect: vLLM {version} does not read it",
        Severity.WARNING,
        (
            _set(each, environ),
            Evidence(builds.vllm_envs, f"does not list {each.name}; that of vLLM {last} did"),
        ),
        (Remedy("show", {}, remedies[0].summary, tuple(remedies[1:])),),
    )


def _misspelt(each: UnknownVariable, version: str, builds: Builds, environ: Environ) -> Finding:
    return Finding(
        f"{each.name} has no effect: vLLM {version} reads {each.near}",
        Severity.WARNING,
        (_set(each, environ), Evidence(builds.vllm_envs, f"lists {each.near}, and no {each.name}")),
        (Remedy("show", {}, f"{each.near} in place of {each.name}"),),
    )


def _unknown(rest: list[UnknownVariable], version: str, builds: Builds, environ: Environ) -> Finding:
    names = ", ".join(each.name for each in rest)
    near = [f"{each.near} in place of {each.name}" for each in rest if each.near]
    return Finding(
        f"vLLM {version} does not read {names}",
        Severity.NOTE,
        (
            *(_set(each, environ) for each in rest),
            Evidence(builds.vllm_envs, "lists none of them" if len(rest) > 1 else "does not list it"),
        ),
        (Remedy("show", {}, "; ".join(near)),) if near else (),
    )


def _set(each: UnknownVariable, environ: Environ) -> Evidence:
    return Evidence(environ.where(each.name), f"{each.name}={environ.get(each.name)}")
