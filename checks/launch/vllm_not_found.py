"""See the check's own page."""

from __future__ import annotations

from collections.abc import Iterator

from cudadoctor.declare import CannotTell, Skip, check
from cudadoctor.facts import Environ, Launch, Packages, Resources, Target
from cudadoctor.findings import Evidence, Finding, Remedy, Severity

_HELP = "the environment that has vLLM: activate it, or name its program by the whole path"


@check
def vllm_not_found(
    launch: Launch, resources: Resources, packages: Packages, target: Target, environ: Environ
) -> Iterator[Finding]:
    """The program that the launch starts is not there, or has no vLLM to start.

    ## What it means
    A shell says `vllm: command not found`, Python `No module named vllm`. Mostly the right environment is not
    active, or a service starts without the PATH of the shell that it was tried in.

    ## How to tell
    `command -v vllm; python -c "import vllm; print(vllm.__file__)"`

    ## What helps
    The command by its whole path (`/opt/vllm/bin/vllm serve ...`), or its environment activated in front of
    it; vLLM installed, where this is the right one.
    """
    if launch.kind == "other" or launch.contained:
        raise Skip("nothing of this environment starts vLLM")
    if resources.program is None or not launch.argv:
        raise CannotTell("where the program of the launch is was not looked at")
    if not resources.program:
        yield Finding(
            f'will stop with "{launch.argv[0]}: command not found"',
            Severity.ERROR,
            (Evidence("PATH", f"no {launch.argv[0]} in {', '.join(environ.path) or 'any folder'}"),),
            (Remedy("show", {}, _HELP),),
        )
    elif _is_without(launch, resources.program, packages, target, environ):
        yield Finding(
            'will stop with "No module named vllm"',
            Severity.ERROR,
            (
                Evidence(target.chosen_by, f"the environment is {target.prefix}"),
                Evidence(", ".join(target.site_packages), "has no vllm"),
            ),
            (Remedy("show", {}, _HELP),),
        )


def _is_without(launch: Launch, program: str, packages: Packages, target: Target, environ: Environ) -> bool:
    """Return whether this Python is the environment's, and has no vLLM: PYTHONPATH may bring one."""
    if launch.argv[0].rpartition("/")[2] == "vllm":
        return False  # a program of that name may be anything
    of_target = program.startswith(f"{target.prefix}/bin/")
    return of_target and packages.find("vllm") is None and not environ.get("PYTHONPATH")
