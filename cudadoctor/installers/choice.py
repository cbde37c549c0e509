"""Which installer brings packages to an environment, and its whole command.

Planning is timed: files are read, and nothing is started.
"""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Iterable
from posixpath import basename, dirname

from msgspec import Struct, structs

from cudadoctor.actions import Install
from cudadoctor.facts import Conda, Packages, Target
from cudadoctor.host import Host, which
from cudadoctor.installers.inventory import VIRTUAL, channel_of, freeze, name_of, python_path
from cudadoctor.probes.packages import normalise

_CLIENTS = ("conda", "mamba", "micromamba")
#: What a project's tool calls "make the environment as the lock file says", and "add a package".
_PROJECTS = {
    "uv.lock": ("uv sync", "uv add"),
    "poetry.lock": ("poetry sync", "poetry add"),
    "pdm.lock": ("pdm sync --clean", "pdm add"),
    "Pipfile.lock": ("pipenv clean", "pipenv install"),
    "pixi.lock": ("pixi install", "pixi add"),
}


class Refused(Struct, frozen=True):
    """Why packages are not installed here, and the command or change that would bring them."""

    reason: str
    show: str


def prepare(
    action: Install, target: Target, packages: Packages, conda: Conda, host: Host
) -> Install | Refused:
    """Return the step with its whole command and all that is installed before it, or why there is none."""
    refused = _owned(action, target) or _managed(action, target, host)
    if refused is not None:
        return refused
    if action.tool == "conda":
        chosen = _by_conda(action, target, conda, host)
    else:
        chosen = _by_pip(action, target, packages, host)
    if isinstance(chosen, Refused):
        return chosen
    return structs.replace(chosen, before=freeze(target, host))


def _owned(action: Install, target: Target) -> Refused | None:
    """Refuse where a lock file says what is in the environment."""
    if target.lock_file:
        sync, add = _PROJECTS[basename(target.lock_file)]
        if add == "pixi add" and action.tool != "conda":
            add = "pixi add --pypi"
        reason = f"{target.lock_file} says what is in this environment: the next `{sync}` would revert it"
        change = f"cd {shlex.quote(dirname(target.lock_file))} && {add} {shlex.join(action.packages)}"
        return Refused(reason, change)
    if target.kind == "pixi":
        name = shlex.quote(basename(target.prefix))
        change = f"pixi global add --environment {name} {shlex.join(action.packages)}"
        return Refused("pixi made this environment and would revert it", change)
    return None


def _managed(action: Install, target: Target, host: Host) -> Refused | None:
    """Refuse where the environment is frozen, has another manager, or is none for this installer."""
    if action.tool == "conda":
        if target.kind != "conda":
            return Refused(f"{target.prefix} is no conda environment", "")
        if host.kind(frozen := f"{target.prefix}/conda-meta/frozen"):
            new = f"conda create -n cuda -c conda-forge {shlex.join(action.packages)}"
            return Refused(f"{frozen} forbids changes of this environment", new)
        return None
    if not target.python:
        return Refused(f"{target.prefix} has no Python to install for", "")
    if target.kind in VIRTUAL:
        return None
    library = basename(target.include)
    for folder in (f"{target.base_prefix}/{lib}/{library}" for lib in ("lib", "lib64")):
        if host.kind(f"{folder}/EXTERNALLY-MANAGED"):
            words = f"{shlex.quote(target.python)} -m venv ~/cuda && ~/cuda/bin/python -m pip install"
            reason = f"{folder}/EXTERNALLY-MANAGED: this Python's packages are the system's own to manage"
            return Refused(reason, f"{words} {shlex.join(action.packages)}")
    return None


def _by_pip(action: Install, target: Target, packages: Packages, host: Host) -> Install | Refused:
    """Choose pip, or uv for what uv made and where there is no pip; never uv in a conda environment."""
    uv = which(host, "uv", [*_path(host), f"{target.prefix}/bin"]) if target.kind != "conda" else ""
    named = python_path(host)
    pip = any(d.name == "pip" and not d.problem and d.location not in named for d in packages.distributions)
    if uv and (target.kind == "uv" or not pip):
        argv: tuple[str, ...] = (uv, "pip", "install", "--python", target.python)
        return structs.replace(action, tool="uv", argv=(*argv, *action.packages))
    if pip:
        argv = (target.python, "-m", "pip", "install", "--no-input", "--disable-pip-version-check")
        return structs.replace(action, tool="pip", argv=(*argv, *action.packages))
    wanted, python = shlex.join(action.packages), shlex.quote(target.python)
    if target.kind == "conda":
        pip_first = f"conda install -p {shlex.quote(target.prefix)} pip && {python} -m pip install {wanted}"
        return Refused(f"{target.prefix} has no pip", pip_first)
    if target.kind == "uv":
        again = f"uv pip install --python {python} {wanted}"
        return Refused(f"uv made {target.prefix}, which has no pip, and no uv is on PATH", again)
    show = f"{python} -m ensurepip --upgrade && {python} -m pip install {wanted}"
    return Refused(f"{target.prefix} has no pip, and no uv is on PATH", show)


def _by_conda(action: Install, target: Target, conda: Conda, host: Host) -> Install | Refused:
    channels = [word for channel in _channels(action, conda) for word in ("-c", channel)]
    words = ("install", "-p", target.prefix, *channels, "-y", *action.packages)
    client = _client(host, target.prefix)
    if not client:
        return Refused("neither conda, mamba nor micromamba is on PATH", shlex.join(("conda", *words)))
    return structs.replace(action, tool="conda", argv=(client, *words))


def _client(host: Host, prefix: str) -> str:
    """Return the client that the variables name, or the first on PATH or in the base."""
    for variable in ("CONDA_EXE", "MAMBA_EXE"):
        if (named := host.environ.get(variable, "")).startswith("/") and host.executable(named):
            return named
    folders = [*_path(host), f"{prefix.partition('/envs/')[0]}/bin"]
    return next(filter(None, (which(host, name, folders) for name in _CLIENTS)), "")


def _channels(action: Install, conda: Conda) -> list[str]:
    """Return the channel that the CUDA packages came from, so that they stay of one make, and conda-forge."""
    cuda = ("cuda", "libcu", "libnv")
    found: list[str] = []
    if any(name_of(spec).startswith(cuda) for spec in action.packages):
        counted = Counter(channel_of(r.channel) for r in conda.records if r.name.startswith(cuda))
        found = [channel for channel, _ in counted.most_common(1) if basename(channel) != "conda-forge"]
    return [channel for channel in (*found, "conda-forge") if channel]


def _path(host: Host) -> list[str]:
    return [folder for folder in host.environ.get("PATH", "").split(":") if folder.startswith("/")]


def joined(packages: Iterable[str]) -> tuple[str, ...]:
    """Return one spec for each package that is named, in the order of their first ones.

    Of several for one package an exact version wins over a bound, and a bound over none; else the first.
    """
    found: dict[str, str] = {}
    for spec in packages:
        name = normalise(name_of(spec))
        found[name] = max(found.get(name, spec), spec, key=_strictness)
    return tuple(found.values())


def _strictness(spec: str) -> int:
    sign = re.search(r"[<>=!~]", spec)
    if sign is None:
        return 0
    return 2 if sign[0] == "=" else 1
