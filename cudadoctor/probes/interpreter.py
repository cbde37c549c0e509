"""What kind of Python an environment has: version, library, headers and site-packages, told from files."""

from __future__ import annotations

import re
from collections.abc import Iterator
from posixpath import basename, dirname
from typing import NamedTuple

from cudadoctor.host import Host, barred
from cudadoctor.versions import numbers

_NAME = re.compile(r"(python|pypy)(3\.\d+)(t?)[a-z]*")


class Python(NamedTuple):
    """An environment's Python."""

    prefix: str
    path: str  #: of the interpreter; empty where the environment has none
    settings: dict[str, str] | None  #: pyvenv.cfg; None where this is no virtual environment
    library: str  #: the name of its folder under lib: python3.11, python3.13t, or ""
    base: str  #: the prefix that the standard library is in

    @property
    def minor(self) -> str:
        """Return "3.11", or "" where nothing tells."""
        return re.sub(r"[^\d.]", "", self.library)


def python_at(host: Host, prefix: str, path: str = "") -> Python:
    """Return the Python of an environment; `path` is its interpreter where that is known."""
    path = path or python_in(host, prefix)
    settings = _pyvenv(host, prefix)
    library = _library(host, prefix, path, settings)
    return Python(prefix, path, settings, library, _base(host, prefix, path, settings, library))


def python_in(host: Host, prefix: str) -> str:
    """Return the interpreter in a prefix, or ""; after `make altinstall` there is only bin/python3.11."""
    for name in ("python3", "python"):
        if host.executable(f"{prefix}/bin/{name}"):
            return f"{prefix}/bin/{name}"
    versioned = (f"{prefix}/bin/{name}" for _, name in python_folders(host, prefix))
    return next((path for path in versioned if host.executable(path)), "")


def python_folders(host: Host, prefix: str) -> list[tuple[str, str]]:
    """Return ("lib", "python3.11") for each Python library folder, the newest first."""
    found = []
    for lib in ("lib", "lib64"):
        try:
            names = host.list(f"{prefix}/{lib}")
        except OSError:
            continue
        named = (name for name in names if name.startswith(("python3.", "pypy3.")))
        found += [(lib, name) for name in named if _NAME.fullmatch(name)]
    return sorted(found, key=lambda pair: (-numbers(pair[1])[1], pair))


def _pyvenv(host: Host, prefix: str) -> dict[str, str] | None:
    """Return pyvenv.cfg as a dictionary, empty where it cannot be read; None where there is none."""
    file = f"{prefix}/pyvenv.cfg"
    try:
        text = host.read(file, 1 << 20).decode("utf-8", "surrogateescape")
    except OSError:
        return {} if host.kind(file) == "file" else None
    pairs = (line.partition("=") for line in text.splitlines() if "=" in line)
    return {key.strip().lower(): value.strip() for key, _, value in pairs}


def _stated(settings: dict[str, str] | None) -> str:
    """Return the version in pyvenv.cfg: that of the interpreter on the day the environment was made."""
    for key in ("version_info", "version"):
        if match := re.match(r"3\.\d+(\.\d+)?", (settings or {}).get(key, "")):
            return match[0]
    return ""


def _library(host: Host, prefix: str, path: str, settings: dict[str, str] | None) -> str:
    """Return the name of the interpreter's library folder, as the name of its own file tells it."""
    if path and (match := _NAME.fullmatch(basename(host.realpath(path)))):
        return f"{match[1]}{match[2]}{match[3]}"
    names = [name for _, name in python_folders(host, prefix)]
    if stated := _stated(settings):
        library = f"python{'.'.join(stated.split('.')[:2])}"
        return f"{library}t" if library not in names and f"{library}t" in names else library
    return names[0] if names else ""


def _base(host: Host, prefix: str, path: str, settings: dict[str, str] | None, library: str) -> str:
    """Return the prefix that the standard library is in; the one stated where it is nowhere."""
    if settings is None and host.kind(f"{prefix}/conda-meta") == "directory":
        return prefix
    given = settings or {}
    home = given.get("home", "").rstrip("/")
    stated = dirname(home) if home.startswith("/") else ""
    behind = (dirname(dirname(host.realpath(file))) for file in (path, home and f"{home}/python3") if file)
    for base in (stated, given.get("base-prefix", ""), *behind):
        # "/" has a library too where /lib is a link to /usr/lib, but no interpreter calls it its prefix.
        if base not in ("", "/") and library and _has_library(host, base, library):
            return base
    return stated or prefix


def _has_library(host: Host, base: str, library: str) -> bool:
    return any(host.kind(f"{base}/{lib}/{library}/os.py") == "file" for lib in ("lib", "lib64"))


def kind(host: Host, python: Python) -> str:
    """Return conda, pixi, uv, virtualenv, venv, pyenv or system."""
    prefix, settings = python.prefix, python.settings
    if host.kind(f"{prefix}/conda-meta") == "directory":
        pixi = "/.pixi/envs/" in prefix or host.kind(f"{prefix}/conda-meta/pixi") == "file"
        return "pixi" if pixi else "conda"
    if settings is not None:
        return "uv" if "uv" in settings else "virtualenv" if "virtualenv" in settings else "venv"
    root, _, name = prefix.rpartition("/versions/")
    inside = bool(root) and "/" not in name
    shims = inside and (root.endswith("/.pyenv") or host.kind(f"{root}/shims") == "directory")
    return "pyenv" if shims else "system"


_LOCKS = ("uv.lock", "poetry.lock", "pdm.lock", "Pipfile.lock")


def lock_file(host: Host, prefix: str, kind: str) -> str:
    """Return the lock file of the project that owns an environment, or "".

    An environment that a tool keeps away from its project, as Poetry does, does not tell which one that is.
    """
    project, _, name = prefix.rpartition("/")
    if kind == "pixi":
        inside, found, _ = prefix.partition("/.pixi/envs/")
        files = [f"{inside}/pixi.lock" if found else f"{_pixi_project(host, prefix)}/pixi.lock"]
    elif name == ".venv":
        # In a project that moves from one tool to another, the one that made the environment counts.
        files = [f"{project}/{lock}" for lock in (_LOCKS if kind == "uv" else (*_LOCKS[1:], _LOCKS[0]))]
    else:
        files = []
    return next((file for file in files if host.kind(file) == "file"), "")


def _pixi_project(host: Host, prefix: str) -> str:
    """Return the project of a pixi environment that is kept elsewhere (`detached-environments`)."""
    try:
        text = host.read(f"{prefix}/conda-meta/pixi", 1 << 16).decode("utf-8", "surrogateescape")
    except OSError:
        return ""
    match = re.search(r'"manifest_path"\s*:\s*"([^"\\]+)"', text)
    return dirname(match[1]) if match else ""


def version(host: Host, python: Python) -> str:
    """Return the interpreter's version, as precise as files tell it: "3.11.7", "3.11" or "".

    The base's own files come before pyvenv.cfg, which keeps the version of the day it was written.
    """
    if not python.minor:
        return _stated(python.settings)
    found = (known for known in _versions(host, python) if known.startswith(f"{python.minor}."))
    return next(found, python.minor)


def _versions(host: Host, python: Python) -> Iterator[str]:
    if match := re.search(r"/(?:versions/|cpython-)(3\.\d+\.\d+)[^/]*$", python.base):
        yield match[1]
    yield _from_conda_meta(host, python)
    yield _from_patchlevel(host, python)
    yield _stated(python.settings)


def _from_conda_meta(host: Host, python: Python) -> str:
    try:
        names = host.list(f"{python.base}/conda-meta")
    except OSError:
        return ""
    records = (name for name in names if name.startswith(f"python-{python.minor}."))
    matches = (re.fullmatch(r"python-(3\.\d+\.\d+)[^-]*-[^-]+\.json", name) for name in records)
    return next((match[1] for match in matches if match), "")


def _from_patchlevel(host: Host, python: Python) -> str:
    try:
        text = host.read(f"{include(host, python)}/patchlevel.h", 1 << 20).decode("utf-8", "replace")
    except OSError:
        return ""
    match = re.search(r'#define\s+PY_VERSION\s+"(3\.\d+\.\d+)', text)
    return match[1] if match else ""


def include(host: Host, python: Python) -> str:
    """Return the folder that Python.h belongs into; that of Python 3.7 ends in an m."""
    usual = f"{python.base}/include/{python.library or 'python3'}"
    return f"{usual}m" if python.minor == "3.7" and host.kind(f"{usual}m") == "directory" else usual


def site_packages(host: Host, python: Python) -> tuple[str, ...]:
    """Return the folders that the interpreter searches for distributions, in its order."""
    if not python.library:
        return ()
    settings, variables = python.settings, host.environ
    shared = settings is None or settings.get("include-system-site-packages", "").lower() == "true"
    candidates = [entry for entry in variables.get("PYTHONPATH", "").split(":") if entry.startswith("/")]
    if settings is not None:
        candidates += _sites(host, python.prefix, python.library)
    if shared:
        if not variables.get("PYTHONNOUSERSITE"):
            user = variables.get("PYTHONUSERBASE") or f"{host.home()}/.local"
            candidates.append(f"{user}/lib/{python.library}/site-packages")
        candidates += _sites(host, python.base, python.library)
    found: dict[str, str] = {}
    for folder in candidates:
        if host.kind(folder) == "directory":
            found.setdefault(host.realpath(folder), folder)
    return tuple(found.values())


def _sites(host: Host, root: str, library: str) -> list[str]:
    """Return the folders for distributions under one prefix; in /usr, Linux distributions have their own."""
    own = [f"{root}/{lib}/{library}/site-packages" for lib in ("lib", "lib64")]
    if root != "/usr":
        return own
    if host.kind("/usr/lib/python3/dist-packages") == "directory":
        names = (f"local/lib/{library}", "lib/python3", f"lib/{library}")
        return [f"/usr/{name}/dist-packages" for name in names]
    return [*(f"/usr/local/{lib}/{library}/site-packages" for lib in ("lib64", "lib")), *own]


def notes(host: Host, python: Python) -> Iterator[str]:
    """Say what is odd about the interpreter itself."""
    stated, link = _stated(python.settings), f"{python.prefix}/bin/python3"
    if not python.path and host.kind(link, follow=False) == "link":
        closed = barred(host, link)
        why = f"this user may not enter {closed}" if closed else f"{host.realpath(link)} is gone"
        yield f"{link} leads to no program{' that can be seen' if closed else ''}: {why}"
    if stated and python.minor and not f"{stated}.".startswith(f"{python.minor}."):
        yield f"made for Python {stated}, but its interpreter is {python.minor} by now"
    if python.minor and numbers(python.minor) < (3, 8):
        yield f"Python {python.minor} is older than 3.8: what is said of it may be wrong"
    if python.settings == {}:
        yield f"{python.prefix}/pyvenv.cfg is empty, or cannot be read"
