"""Which Python environment is diagnosed, told from files alone: the interpreter is never started."""

from __future__ import annotations

import re
from typing import NamedTuple

from cudadoctor.facts import Target
from cudadoctor.host import Host, which

STACK_PACKAGES = ("torch", "vllm", "flashinfer")


class Request(NamedTuple):
    """What the user asked to have diagnosed; all empty: the active environment."""

    prefix: str = ""
    python: str = ""
    name: str = ""
    deep: bool = False


class NoTarget(Exception):
    """What the user named is no Python environment, or none could be found: one line, exit code 2."""


class _Choice(NamedTuple):
    prefix: str
    python: str
    by: str
    notes: tuple[str, ...] = ()


def probe(host: Host, request: Request) -> Target:
    """Return the environment to diagnose; raise NoTarget where there is none."""
    choice = _choose(host, request)
    settings = _pyvenv(host, choice.prefix)
    python = choice.python or _python_in(host, choice.prefix)
    base = _base_prefix(host, choice.prefix, settings)
    version = _version(host, choice.prefix, python, base, settings)
    kind = _kind(host, choice.prefix, settings)
    return Target(
        prefix=choice.prefix,
        kind=kind,
        python=python,
        version=version,
        base_prefix=base,
        site_packages=_site_packages(host, choice.prefix, base, version, settings),
        include=_include(host, base, version),
        chosen_by=choice.by,
        active=_is_active(host, choice.prefix, python, kind),
        notes=choice.notes,
    )


def _choose(host: Host, request: Request) -> _Choice:
    if request.prefix:
        return _Choice(_checked_prefix(host, request.prefix), "", "--prefix")
    if request.name:
        return _Choice(_named_conda(host, request.name), "", f"--name {request.name}")
    if request.python:
        return _from_python(host, request.python)
    return _active(host) or _first_on_path(host)


def _absolute(host: Host, path: str) -> str:
    expanded = host.home() + path[1:] if path == "~" or path.startswith("~/") else path
    absolute = expanded if expanded.startswith("/") else f"{host.cwd()}/{expanded}"
    return absolute.rstrip("/") or "/"


def _checked_prefix(host: Host, given: str) -> str:
    if "\0" in given:
        raise NoTarget("--prefix: a path cannot hold a NUL byte")
    prefix = _absolute(host, given)
    match host.kind(prefix):
        case "":
            raise NoTarget(f"{given}: no such folder")
        case "directory":
            pass
        case _:
            raise NoTarget(f"{given}: not a folder")
    try:
        names = host.list(prefix)
    except OSError as error:
        raise NoTarget(f"{given}: {error.strerror}") from None
    if "conda-meta" not in names and "pyvenv.cfg" not in names and not _python_in(host, prefix):
        raise NoTarget(f"{given}: no Python environment (no bin/python, conda-meta or pyvenv.cfg in it)")
    return prefix


def _named_conda(host: Host, name: str) -> str:
    """Find a conda environment by name, in the places that conda itself keeps them."""
    roots = [host.environ.get("MAMBA_ROOT_PREFIX", ""), _conda_root(host)]
    roots += [f"{host.home()}/{folder}" for folder in _CONDA_HOMES] + ["/opt/conda", "/opt/miniconda3"]
    for root in filter(None, roots):
        if name in ("base", "root") and host.kind(f"{root}/conda-meta") == "directory":
            return root
    listed = _conda_listed(host)
    for prefix in [f"{root}/envs/{name}" for root in filter(None, roots)] + listed:
        if prefix.rsplit("/", 1)[-1] == name and host.kind(f"{prefix}/conda-meta") == "directory":
            return prefix
    known = sorted({prefix.rsplit("/", 1)[-1] for prefix in listed})
    hint = f" (known: {', '.join(known)})" if known else ""
    raise NoTarget(f"no conda environment is called {name!r}{hint}")


_CONDA_HOMES = ("miniforge3", "mambaforge", "miniconda3", "anaconda3", "micromamba", ".conda")


def _conda_root(host: Host) -> str:
    executable = host.environ.get("CONDA_EXE", "")
    return executable.rsplit("/", 2)[0] if executable.count("/") > 1 else ""


def _conda_listed(host: Host) -> list[str]:
    """Return the prefixes in ~/.conda/environments.txt, where conda notes each one it makes."""
    try:
        text = host.read(f"{host.home()}/.conda/environments.txt").decode("utf-8", "surrogateescape")
    except OSError:
        return []
    return [line.strip() for line in text.splitlines() if line.startswith("/")]


def _from_python(host: Host, given: str) -> _Choice:
    found = which(host, given if "/" not in given else _absolute(host, given), _path(host))
    if not found:
        reason = "not an executable file" if "/" in given else "not found on PATH"
        raise NoTarget(f"--python {given}: {reason}")
    if not re.match(r"(python|pypy)", host.realpath(found).rsplit("/", 1)[-1]) and not _shim(host, found):
        raise NoTarget(f"--python {given}: not a Python interpreter by its name")
    return _Choice(*_prefix_of(host, found), "--python")


def _path(host: Host) -> list[str]:
    return host.environ.get("PATH", "/usr/local/bin:/usr/bin:/bin").split(":")


def _active(host: Host) -> _Choice | None:
    """Return the active environment; of two, the one whose python comes first on PATH."""
    found, notes = [], []
    for variable in ("VIRTUAL_ENV", "CONDA_PREFIX"):
        prefix = host.environ.get(variable, "").rstrip("/")
        if not prefix:
            continue
        if host.kind(prefix) != "directory":
            notes.append(f"{variable}={prefix} is no folder: ignored")
        elif not _is_own_home(host, prefix):
            found.append(_Choice(prefix, "", variable))
    if len(found) == 2:
        order = [folder.rstrip("/") for folder in _path(host)]
        found.sort(key=lambda choice: _position(order, f"{choice.prefix}/bin"))
        loser, winner = found[1], found[0]
        notes.append(f"{loser.by}={loser.prefix} is set too; {winner.prefix}/bin comes first on PATH")
    return found[0]._replace(notes=tuple(notes)) if found else None


def _position(order: list[str], folder: str) -> int:
    return order.index(folder) if folder in order else len(order)


def _first_on_path(host: Host) -> _Choice:
    for folder in _path(host):
        for name in ("python3", "python"):
            candidate = f"{folder}/{name}" if folder else name
            if host.executable(candidate):
                prefix, python = _prefix_of(host, candidate)
                if not _is_own_home(host, prefix):
                    return _Choice(prefix, python, f"{name} on PATH")
    raise NoTarget("no environment is active and no python3 is on PATH: name one with --prefix or --python")


def _is_own_home(host: Host, prefix: str) -> bool:
    """Return whether `prefix` is only the place that pipx, uvx or the like keeps this program in.

    uvx puts its own bin folder first on PATH; whoever runs it means another environment. An environment
    that holds the stack as well is a real target, whoever lives there.
    """
    if host.realpath(prefix) != host.realpath(host.own_prefix()):
        return False
    return not any(
        host.kind(f"{prefix}/{lib}/{python}/site-packages/{package}") == "directory"
        for lib, python in _python_folders(host, prefix)
        for package in STACK_PACKAGES
    )


def _prefix_of(host: Host, python: str) -> tuple[str, str]:
    """Return the environment an interpreter belongs to, and the interpreter behind any pyenv shim."""
    python = _shim(host, python) or python
    own = python.rsplit("/", 2)[0] or "/"
    if _pyvenv(host, own) or host.kind(f"{own}/conda-meta") == "directory":
        return own, python
    return host.realpath(python).rsplit("/", 2)[0] or "/", python


def _shim(host: Host, python: str) -> str:
    """Return the interpreter that a pyenv shim would start, or "" where `python` is no such shim."""
    root, _, rest = python.rpartition("/shims/")
    if not root or "/" in rest or host.kind(f"{root}/versions") != "directory":
        return ""
    for version in _pyenv_versions(host, root):
        found = f"{root}/versions/{version}/bin/{rest}"
        if host.executable(found):
            return found
    return ""


def _pyenv_versions(host: Host, root: str) -> list[str]:
    if chosen := host.environ.get("PYENV_VERSION"):
        return chosen.split(":")
    folder = host.cwd()
    files = [f"{root}/version"]
    while folder:
        files.insert(-1, f"{folder}/.python-version")
        folder = folder.rpartition("/")[0]
    for file in files:
        try:
            return host.read(file).decode("utf-8", "replace").split()
        except OSError:
            continue
    return []


def _python_in(host: Host, prefix: str) -> str:
    for name in ("python3", "python"):
        if host.executable(f"{prefix}/bin/{name}"):
            return f"{prefix}/bin/{name}"
    return ""


def _pyvenv(host: Host, prefix: str) -> dict[str, str]:
    """Return pyvenv.cfg as a dictionary; empty where there is none that can be read."""
    try:
        text = host.read(f"{prefix}/pyvenv.cfg").decode("utf-8", "surrogateescape")
    except OSError:
        return {}
    pairs = (line.partition("=") for line in text.splitlines() if "=" in line)
    return {key.strip().lower(): value.strip() for key, _, value in pairs}


def _base_prefix(host: Host, prefix: str, settings: dict[str, str]) -> str:
    home = settings.get("home", "").rstrip("/")
    return home.rpartition("/")[0] or "/" if home else prefix


def _kind(host: Host, prefix: str, settings: dict[str, str]) -> str:
    if host.kind(f"{prefix}/conda-meta") == "directory":
        pixi = "/.pixi/envs/" in prefix or host.kind(f"{prefix}/conda-meta/pixi") == "file"
        return "pixi" if pixi else "conda"
    if settings:
        return "uv" if "uv" in settings else "virtualenv" if "virtualenv" in settings else "venv"
    return "pyenv" if "/.pyenv/versions/" in prefix else "system"


def _python_folders(host: Host, prefix: str) -> list[tuple[str, str]]:
    """Return ("lib", "python3.11") for each Python library folder, the newest first."""
    found = []
    for lib in ("lib", "lib64"):
        try:
            names = host.list(f"{prefix}/{lib}")
        except OSError:
            continue
        found += [(lib, name) for name in names if re.fullmatch(r"(python|pypy)3\.\d+t?", name)]
    return sorted(found, key=lambda pair: (-int(re.sub(r"\D", "", pair[1].partition(".")[2]) or 0), pair[0]))


def _version(host: Host, prefix: str, python: str, base: str, settings: dict[str, str]) -> str:
    """Return the interpreter's version, as precise as files tell it."""
    for key in ("version_info", "version"):
        if match := re.match(r"3\.\d+(\.\d+)?", settings.get(key, "")):
            return match[0]
    if match := re.search(r"/versions/(3\.\d+\.\d+)", base):
        return match[1]
    minor = _minor(host, prefix, python)
    return _from_conda_meta(host, prefix) or _from_patchlevel(host, base, minor) or minor


def _minor(host: Host, prefix: str, python: str) -> str:
    if python and (match := re.search(r"(?:python|pypy)(3\.\d+)t?$", host.realpath(python))):
        return match[1]
    folders = _python_folders(host, prefix)
    return re.sub(r"[^\d.]", "", folders[0][1]) if folders else ""


def _from_conda_meta(host: Host, prefix: str) -> str:
    try:
        names = host.list(f"{prefix}/conda-meta")
    except OSError:
        return ""
    matches = (re.fullmatch(r"python-(3\.\d+\.\d+)-[^-]+\.json", name) for name in names)
    return next((match[1] for match in matches if match), "")


def _from_patchlevel(host: Host, base: str, minor: str) -> str:
    try:
        text = host.read(f"{base}/include/python{minor}/patchlevel.h").decode("utf-8", "replace")
    except OSError:
        return ""
    match = re.search(r'#define\s+PY_VERSION\s+"(3\.[\d.]+)', text)
    return match[1] if match else ""


def _minor_of(version: str) -> str:
    return ".".join(version.split(".")[:2])


def _site_packages(
    host: Host, prefix: str, base: str, version: str, settings: dict[str, str]
) -> tuple[str, ...]:
    """Return the folders that the interpreter searches for distributions, in its order."""
    minor = _minor_of(version)
    if not minor:
        return ()
    system = not settings
    shared = settings.get("include-system-site-packages", "").lower() == "true"
    candidates = [] if not (system or shared) else [f"{host.home()}/.local/lib/python{minor}/site-packages"]
    if not system:
        candidates[:0] = _purelib(prefix, minor)
    if system or shared:
        root = base if shared else prefix
        candidates += [f"/usr/local/lib/python{minor}/dist-packages"] if root in ("/usr", "/") else []
        candidates += _purelib(root, minor)
        candidates += ["/usr/lib/python3/dist-packages"] if root in ("/usr", "/") else []
    found: dict[str, str] = {}
    for folder in candidates:
        if host.kind(folder) == "directory":
            found.setdefault(host.realpath(folder), folder)
    return tuple(found.values())


def _purelib(prefix: str, minor: str) -> list[str]:
    names = [f"lib/python{minor}", f"lib64/python{minor}", f"lib/python{minor}t"]
    return [f"{prefix}/{name}/site-packages" for name in names]


def _include(host: Host, base: str, version: str) -> str:
    minor = _minor_of(version)
    names = [f"python{minor}", f"python{minor}t", f"python{minor}m"]
    for name in names:
        if host.kind(f"{base}/include/{name}") == "directory":
            return f"{base}/include/{name}"
    return f"{base}/include/{names[0]}"


def _is_active(host: Host, prefix: str, python: str, kind: str) -> bool:
    """Return whether the current variables are those of this environment.

    A conda or virtual environment is active when its variable names it. A system Python has nothing to
    activate: the current variables are its own.
    """
    variable = {"conda": "CONDA_PREFIX", "pixi": "CONDA_PREFIX", "system": "", "pyenv": ""}.get(kind, "VIRTUAL_ENV")
    if not variable:
        return True
    current = host.environ.get(variable, "").rstrip("/")
    return bool(current) and host.realpath(current) == host.realpath(prefix)
