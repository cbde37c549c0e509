"""Which Python environment is diagnosed, told from files alone: the interpreter is never started."""

from __future__ import annotations

import re
from collections.abc import Iterator
from posixpath import basename, dirname, normpath
from typing import NamedTuple

from cudadoctor.facts import Target
from cudadoctor.host import Host, barred, which
from cudadoctor.probes import interpreter
from cudadoctor.probes.interpreter import python_folders, python_in
from cudadoctor.versions import numbers

STACK_PACKAGES = ("torch", "vllm", "flashinfer")

#: Places where uv and pipx keep the environments of the programs they run, not those of projects.
_RUNNERS = re.compile(r"/(?:(?:archive|environments|builds)-v\d+|uv/tools|pipx/(?:venvs|\.cache))/")
_CONDA_HOMES = ("miniforge3", "mambaforge", "miniconda3", "anaconda3", "micromamba", ".local/share/mamba")
#: How an environment was chosen that the launch itself starts a program of.
COMMAND = "the command"
_CONTAINER = "a container is started: this program's own environment stands in"
#: Of the wrappers around a launch; compiled where there is one.
_CONDA_RUN = r"(?:conda|mamba) run (?:.*? )?(-n|--name|-p|--prefix)[ =](\S+)"
_UV_FOLDER = r" --(?:project|directory)[ =](\S+)"
_CONDA_ROOTS = ("/opt/conda", "/opt/miniforge3", "/opt/miniconda3", "/opt/anaconda3")


class Asked(NamedTuple):
    """The launch that the user asked about, and the card to plan it for where that is not this machine's."""

    argv: tuple[str, ...] = ()
    compose: str = ""
    service: str = ""
    dockerfile: str = ""
    script: str = ""
    gpu: str = ""  #: a card by name
    memory_bytes: int = 0
    capability: str = ""
    cards: int = 1
    online: bool = False


class Request(NamedTuple):
    """What the user asked to have diagnosed; all empty: the active environment."""

    prefix: str = ""
    python: str = ""
    name: str = ""
    deep: bool = False
    launch: Asked | None = None


class NoTarget(Exception):
    """What the user named is no Python environment, or none could be found: one line, exit code 2."""

    def __str__(self) -> str:
        """Return the line, with whatever a terminal would take for a command spelled out."""
        text = super().__str__()
        return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


class _Choice(NamedTuple):
    prefix: str
    python: str
    by: str
    notes: tuple[str, ...] = ()


def probe(host: Host, request: Request) -> Target:
    """Return the environment to diagnose; raise NoTarget where there is none."""
    choice = _choose(host, request)
    python = interpreter.python_at(host, choice.prefix, choice.python)
    kind = interpreter.kind(host, python)
    return Target(
        prefix=choice.prefix,
        kind=kind,
        python=python.path,
        version=interpreter.version(host, python),
        base_prefix=python.base,
        site_packages=interpreter.site_packages(host, python),
        include=interpreter.include(host, python),
        chosen_by=choice.by,
        active=choice.by == COMMAND or _is_active(host, choice.prefix, kind),
        notes=(*choice.notes, *interpreter.notes(host, python)),
        lock_file=interpreter.lock_file(host, choice.prefix, kind),
    )


def _choose(host: Host, request: Request) -> _Choice:
    if request.prefix:
        return _Choice(_checked_prefix(host, request.prefix), "", "--prefix")
    if request.name:
        return _Choice(_named_conda(host, request.name), "", f"--name {request.name}")
    if request.python:
        return _from_python(host, request.python)
    found, notes = _active(host)
    if request.launch is not None and (started := _of_launch(host, request.launch, found)):
        return started
    return found or _first_on_path(host, notes)


def _absolute(host: Host, path: str) -> str:
    """Return the path from the root, without `.`, `//` and a last slash; `..` stays where it matters."""
    whole = host.home() + path[1:] if path == "~" or path.startswith("~/") else path
    if not whole.startswith("/"):
        if not (cwd := host.cwd()):
            raise NoTarget(f"{path}: the current folder is gone")
        whole = f"{cwd}/{whole}"
    plain = f"/{normpath(whole).lstrip('/')}"
    same = plain == whole or host.realpath(plain) == host.realpath(whole)
    return plain if same else whole.rstrip("/")


def _variable(host: Host, name: str) -> str:
    return host.environ.get(name, "")


def _path(host: Host) -> list[str]:
    """Return the folders of PATH, each once: a PATH can be long, and say the same again and again."""
    return list(dict.fromkeys(host.environ.get("PATH", "/usr/local/bin:/usr/bin:/bin").split(":")))


# --- what the user names ------------------------------------------------------------------------------------


def _checked_prefix(host: Host, given: str) -> str:
    prefix = _absolute(host, given)
    if _is_environment(host, prefix):
        return prefix
    if host.executable(prefix):
        raise NoTarget(f"--prefix {given}: not a folder (name an interpreter with --python)")
    try:
        host.list(prefix)
    except FileNotFoundError:
        raise NoTarget(f"--prefix {given}: no such folder") from None
    except NotADirectoryError:
        raise NoTarget(f"--prefix {given}: not a folder") from None
    except OSError as error:
        raise NoTarget(f"--prefix {given}: {error.strerror}") from None
    raise NoTarget(f"--prefix {given}: no Python environment (no bin/python, conda-meta or pyvenv.cfg in it)")


def _is_environment(host: Host, prefix: str) -> bool:
    return (
        host.kind(f"{prefix}/pyvenv.cfg") == "file"
        or host.kind(f"{prefix}/conda-meta") == "directory"
        or bool(python_in(host, prefix))
    )


def _named_conda(host: Host, name: str) -> str:
    """Find a conda environment by name, in the places that conda itself keeps them."""
    roots = list(filter(None, _conda_roots(host)))
    folders = f"{_variable(host, 'CONDA_ENVS_PATH')}:{_variable(host, 'CONDA_ENVS_DIRS')}".split(":")
    folders += [f"{root}/envs" for root in roots]
    listed = _conda_listed(host)
    candidates = [f"{folder}/{name}" for folder in folders if folder] + listed
    if name in ("base", "root"):
        candidates = roots
    for prefix in candidates:
        named = prefix in roots or basename(prefix) == name
        if named and host.kind(f"{prefix}/conda-meta") == "directory":
            return prefix
    known = sorted({basename(prefix) for prefix in listed})
    hint = f" (known: {', '.join(known[:20])})" if known else ""
    raise NoTarget(f"--name {name}: no conda environment is called so{hint}")


def _conda_roots(host: Host) -> Iterator[str]:
    executable = _variable(host, "CONDA_EXE")
    yield dirname(dirname(executable)) if executable.startswith("/") else ""
    yield _variable(host, "MAMBA_ROOT_PREFIX")
    yield _variable(host, "CONDA_PREFIX").partition("/envs/")[0]
    yield from (f"{host.home()}/{folder}" for folder in (*_CONDA_HOMES, ".conda"))
    yield from _CONDA_ROOTS


def _conda_listed(host: Host) -> list[str]:
    """Return the prefixes in ~/.conda/environments.txt, where conda notes each one it makes."""
    try:
        text = host.read(f"{host.home()}/.conda/environments.txt").decode("utf-8", "surrogateescape")
    except OSError:
        return []
    return [line.strip().rstrip("/") for line in text.splitlines() if line.startswith("/")]


def _from_python(host: Host, given: str) -> _Choice:
    found = which(host, _absolute(host, given) if "/" in given else given, _path(host))
    if not found:
        reason = "not an executable file" if "/" in given else "not found on PATH"
        if "/" in given and (closed := barred(host, _absolute(host, given))):
            reason = f"this user may not enter {closed}"
        raise NoTarget(f"--python {given}: {reason}")
    python = _interpreter(host, _absolute(host, found))
    if not python:
        raise NoTarget(f"--python {given}: not a Python interpreter, nor a script that names one")
    if _is_python2(host, python):
        raise NoTarget(f"--python {given}: a Python 2; 3.8 or later is needed")
    return _Choice(_prefix_of(host, python), python, "--python")


def _is_python2(host: Host, python: str) -> bool:
    return basename(host.realpath(python)).startswith("python2")


# --- what the launch starts ---------------------------------------------------------------------------------


def _of_launch(host: Host, asked: Asked, active: _Choice | None) -> _Choice | None:
    """Return the environment whose program the launch starts; None where that tells none.

    A launch into a container starts nothing of this machine: any environment will do to ask about the rest.
    """
    from cudadoctor.probes import launch

    read = launch.read(host, asked)
    if read.contained:
        return active or _Choice(host.own_prefix(), "", _CONTAINER)
    if read.activated and (found := _activated(host, read.activated)):
        return found
    wrapped, unknown = _of_wrappers(host, read.wrappers)
    if wrapped is not None or not read.argv:
        return wrapped
    if unknown:  # it runs in an environment that is not known: the active one stands in, and that is said
        return (active or _first_on_path(host, []))._replace(notes=tuple(unknown))
    if active is not None and any(wrapper.startswith("uv run") for wrapper in read.wrappers):
        return active
    name = read.argv[0]
    given = read.variables.get("PATH")
    path = _path(host) if given is None else given.value.split(":")
    place = which(host, _absolute(host, name) if "/" in name else name, path)
    python = _interpreter(host, _absolute(host, place)) if place else ""
    if not python or _is_python2(host, python):
        return None
    prefix = _prefix_of(host, python)
    if active is not None and host.realpath(active.prefix) == host.realpath(prefix):
        return active
    notes = (f"{active.by}={active.prefix} is active, and the command is of another",) if active else ()
    return _Choice(prefix, python, COMMAND, notes)


def _activated(host: Host, named: str) -> _Choice | None:
    """Return the environment that a script activates; None where there is no such one."""
    try:
        prefix = _checked_prefix(host, named) if "/" in named else _named_conda(host, named)
    except NoTarget:
        return None
    return _Choice(prefix, "", f"activated by the script: {named}")


def _of_wrappers(host: Host, wrappers: tuple[str, ...]) -> tuple[_Choice | None, list[str]]:
    """Return the environment that `conda run` names, or `uv run` takes; or why it is not known."""
    for wrapper in wrappers:
        try:
            if match := re.search(_CONDA_RUN, wrapper):
                named, value = match[1] in ("-n", "--name"), match[2]
                prefix = _named_conda(host, value) if named else _checked_prefix(host, value)
                return _Choice(prefix, "", match[0]), []
            if re.match(r"(?:uvx|uv tool run)\b", wrapper):
                raise NoTarget("uvx makes an environment of its own")
            if re.match(r"uv run\b", wrapper):
                return _of_uv(host, wrapper), []
        except NoTarget as problem:
            return None, [f"{problem}; another environment stands in"]
    return None, []


def _of_uv(host: Host, wrapper: str) -> _Choice | None:
    """Return the environment of the project that `uv run` is for, which is not the active one.

    Without a project uv takes the active one, else a `.venv` here or above; tried with uv 0.13.9.
    """
    active = bool(_variable(host, "VIRTUAL_ENV") or _variable(host, "CONDA_PREFIX"))
    if active and re.search(r" --active\b", wrapper):
        return None
    match = re.search(_UV_FOLDER, wrapper)
    folder = _absolute(host, match[1] if match else ".")
    above = [folder]
    while above[-1] != "/":
        above.append(dirname(above[-1]))
    project = next((each for each in above if host.kind(f"{each}/pyproject.toml") == "file"), "")
    if project and " --no-project" not in wrapper:
        own = _variable(host, "UV_PROJECT_ENVIRONMENT") or ".venv"
        prefix = own if own.startswith("/") else f"{project}/{own}"
        if not _is_environment(host, prefix):
            raise NoTarget(f"uv run: {prefix} is not made yet")
        return _Choice(prefix, "", f"uv run in {project}")
    if active:
        return None
    found = next((f"{each}/.venv" for each in above if _is_environment(host, f"{each}/.venv")), "")
    return _Choice(found, "", "uv run") if found else None


# --- what is active, or first on PATH -----------------------------------------------------------------------


def _active(host: Host) -> tuple[_Choice | None, list[str]]:
    """Return the active environment; of two, the one whose python comes first on PATH."""
    found: list[_Choice] = []
    notes: list[str] = []
    for variable in ("VIRTUAL_ENV", "CONDA_PREFIX"):
        if not (given := _variable(host, variable)):
            continue
        prefix = _absolute(host, given)
        if not _is_environment(host, prefix):
            notes.append(f"{variable}={given} {_no_environment(host, prefix)}: ignored")
        elif not (_is_own_home(host, prefix) and _RUNNERS.search(prefix)):
            found.append(_Choice(prefix, "", variable))
    if len(found) == 2:
        found, note = _first_of(host, found)
        notes += note
    if not found:
        return None, notes
    if _is_own_home(host, found[0].prefix):
        notes.append("this program lives in it, and nothing of the stack does")
    return found[0]._replace(notes=tuple(notes)), notes


def _no_environment(host: Host, prefix: str) -> str:
    """Say what stands at the path of an environment instead of one."""
    if closed := barred(host, f"{prefix}/pyvenv.cfg"):
        return f"cannot be seen: this user may not enter {closed}"
    return "is no Python environment" if host.kind(prefix) == "directory" else "is no folder"


def _first_of(host: Host, found: list[_Choice]) -> tuple[list[_Choice], list[str]]:
    """Put the one that is meant first, and say so; a home of this program alone is not meant."""
    if host.realpath(found[0].prefix) == host.realpath(found[1].prefix):
        return found, []
    if len(kept := [choice for choice in found if not _is_own_home(host, choice.prefix)]) == 1:
        return kept, []
    places: dict[str, int] = {}
    for index, choice in enumerate(found):
        if python_in(host, choice.prefix):
            places[f"{choice.prefix}/bin"] = places[host.realpath(f"{choice.prefix}/bin")] = index
    where = "neither is on PATH"
    for folder in _path(host):
        plain = folder.rstrip("/")
        spelled = host.realpath(plain) if plain.endswith("/bin") and plain not in places else plain
        if (index := places.get(spelled, -1)) >= 0:
            found = [found[index], found[1 - index]]
            where = f"{found[0].prefix}/bin comes first on PATH"
            break
    return found, [f"{found[1].by}={found[1].prefix} is set too; {where}"]


def _first_on_path(host: Host, notes: list[str]) -> _Choice:
    for name in ("python3", "python"):
        for folder in _path(host):
            candidate = which(host, name, [folder])
            if not candidate or not (python := _interpreter(host, _absolute(host, candidate))):
                continue
            prefix = _prefix_of(host, python)
            if not _is_own_home(host, prefix) and not _is_python2(host, python):
                return _Choice(prefix, python, f"{name} on PATH", (*notes, *_elsewhere(host, prefix)))
    stale = f" ({'; '.join(notes)})" if notes else ""
    raise NoTarget(
        f"no environment is active, no python3 is on PATH{stale}: name one with --prefix or --python"
    )


def _elsewhere(host: Host, prefix: str) -> Iterator[str]:
    """Say where the stack is when this program lives beside one that nobody named."""
    own = host.own_prefix()
    if host.realpath(own) != host.realpath(prefix) and _has_stack(host, own):
        yield f"this program lives in {own}, which holds the stack: --prefix {own} would diagnose that one"


def _is_own_home(host: Host, prefix: str) -> bool:
    """Return whether `prefix` is only the place that pipx, uvx or the like keeps this program in.

    uvx puts its own bin folder first on PATH; whoever runs it means another environment. An environment
    that holds the stack as well is a real target, and so is a system's Python, whoever lives there.
    """
    if host.realpath(prefix) != host.realpath(host.own_prefix()):
        return False
    return host.kind(f"{prefix}/pyvenv.cfg") == "file" and not _has_stack(host, prefix)


def _has_stack(host: Host, prefix: str) -> bool:
    return any(
        host.kind(f"{prefix}/{lib}/{python}/{sites}/{package}") == "directory"
        for lib, python in python_folders(host, prefix)
        for sites in ("site-packages", "dist-packages")
        for package in STACK_PACKAGES
    )


def _is_active(host: Host, prefix: str, kind: str) -> bool:
    """Return whether the current variables are those of this environment.

    They are where its variable names it, or its python is the one on PATH (as an image sets it up, without
    any activation). A system's Python has nothing to activate.
    """
    if kind in ("system", "pyenv"):
        return True
    current = _variable(host, "CONDA_PREFIX" if kind in ("conda", "pixi") else "VIRTUAL_ENV")
    if current and host.realpath(current) == host.realpath(prefix):
        return True
    first = which(host, "python3", _path(host))
    return bool(first) and host.realpath(dirname(first)) == host.realpath(f"{prefix}/bin")


# --- from a path to an interpreter --------------------------------------------------------------------------


def _interpreter(host: Host, path: str) -> str:
    """Return the interpreter that `path` is or starts; "" for what is neither.

    A shim of pyenv is followed by pyenv's own rules, any other script by the interpreter it names. Programs
    that stand in for Python under its name (mise's and asdf's shims) are no interpreters.
    """
    if found := _shim(host, path):
        return found
    try:
        head = host.head(path, 4096)
    except OSError:
        head = b""  # a program may be run by those who cannot read it
    if head.startswith(b"#!"):
        if named := _named_first(host, head):
            return named
        lines = [line for line in head.decode("utf-8", "replace").splitlines() if not line.startswith("#")]
        words = re.findall(r"/[^\s\"';|&$()]*/python[\d.]*(?![\w./-])", "\n".join(lines))
        return next((word for word in reversed(words) if word != path and host.executable(word)), "")
    return path if basename(host.realpath(path)).startswith(("python", "pypy")) else ""


def _named_first(host: Host, head: bytes) -> str:
    """Return the interpreter in a script's first line, which installers write into `bin/vllm`, or ""."""
    words = head.partition(b"\n")[0][2:].decode("utf-8", "replace").split()
    if len(words) > 1 and basename(words[0]) == "env":
        words = [which(host, words[-1], _path(host))]
    python = words[0] if words else ""
    return python if basename(python).startswith(("python", "pypy")) and host.executable(python) else ""


def _prefix_of(host: Host, python: str) -> str:
    """Return the environment of an interpreter: its own folder's, else that of the file behind it."""
    own = dirname(dirname(python))
    if host.kind(f"{own}/pyvenv.cfg") == "file" or host.kind(f"{own}/conda-meta") == "directory":
        return own
    return dirname(dirname(host.realpath(python)))


def _shim(host: Host, python: str) -> str:
    """Return the interpreter that a pyenv shim would start, or "" where `python` is no such shim."""
    root, _, name = python.rpartition("/shims/")
    if not root or "/" in name:
        return ""
    try:
        installed = host.list(f"{root}/versions")
    except OSError:
        return ""
    for version in _pyenv_versions(host, root):
        series = [known for known in installed if known.startswith(f"{version}.")]
        for known in [version, *sorted(series, key=numbers, reverse=True)]:
            if "/" not in known and host.executable(found := f"{root}/versions/{known}/bin/{name}"):
                return found
    return ""


def _pyenv_versions(host: Host, root: str) -> list[str]:
    """Return the versions that pyenv would take: PYENV_VERSION, the nearest file, the global one."""
    if chosen := _variable(host, "PYENV_VERSION"):
        return chosen.split(":")
    folder, files = host.cwd(), []
    while folder:
        files.append(f"{folder}/.python-version")
        folder = folder.rpartition("/")[0]
    for file in (*files, f"{root}/version"):
        try:
            text = host.read(file, 1 << 16).decode("utf-8", "replace")
        except OSError:
            continue
        lines = (line.partition("#")[0].split() for line in text.splitlines())
        if words := [words[0] for words in lines if words]:
            return words
    return []
