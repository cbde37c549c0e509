"""See the check's own page."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from cudadoctor.declare import Skip, check
from cudadoctor.facts import Builds, Environ, Packages, UnknownVariable
from cudadoctor.findings import Evidence, Finding, Remedy, Severity
from cudadoctor.knowledge import vllm


@check
def vllm_variable_ignored(packages: Packages, builds: Builds, environ: Environ) -> Iterator[Finding]:
    """A variable called VLLM_* is set that the installed vLLM does not read.

    ## What it means
    vLLM reads the variables that its `vllm/envs.py` lists, and a few that other files of it name. One of an
    older release, or with a slip in its name, has no effect, and up to 0.16 nobody says so:
    `VLLM_ATTENTION_BACKEND` is read up to 0.14 and nowhere from 0.15 on. A variable that is no release's is a
    note: a script or a compose file may have it for itself.

    ## How to tell
    `python -c "import vllm.envs as e; print('VLLM_ATTENTION_BACKEND' in e.environment_variables)"`.

    ## What helps
    The option that took its place, the right name, or no such variable.
    """
    found = packages.find("vllm")
    if found is None:
        raise Skip("vllm is not installed")
    others = [each.name for each in packages.distributions if each.name.startswith("vllm-")]
    rest = []
    for each in builds.vllm_unknown:
        last = vllm.last_read(each.name)
        if last and vllm.is_default(each.name, environ.get(each.name) or ""):
            continue
        if last:
            yield _gone(each, last, found.version, builds, environ)
        elif each.typo:
            yield _misspelt(each, found.version, builds, environ)
        elif not others:  # a plug-in of vLLM's reads variables of its own
            rest.append(each)
    if rest:
        yield _unknown(rest, found.version, builds, environ)


def _gone(each: UnknownVariable, last: str, version: str, builds: Builds, environ: Environ) -> Finding:
    remedies = [Remedy("show", {}, f"unset {each.name}")]
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
