"""Packages as a step: which installer brings them to an environment, what it did there, and the way back.

Planning reads files and starts nothing. An installer is the environment's own: conda's client for a conda
prefix, uv for what uv made, pip for the rest. Where its work would not last, or is not wanted, the plan is
`Refused` and says what the user can do instead.
"""

from __future__ import annotations

import itertools
import os
import re
import shlex
import signal
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from posixpath import basename, dirname
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import msgspec
from msgspec import Struct, structs

from cudadoctor.actions import Install, Version
from cudadoctor.facts import (
    BuildTool,
    BuildTools,
    Conda,
    CondaRecord,
    Distribution,
    Environ,
    Facts,
    HeaderDirectory,
    Libraries,
    LibraryFile,
    Machine,
    Packages,
    Target,
    Toolkit,
    Toolkits,
    Unknown,
)
from cudadoctor.host import Host, which
from cudadoctor.knowledge.headers import HEADERS
from cudadoctor.probes.packages import STACK, normalise
from cudadoctor.probes.packages import probe as seen_in
from cudadoctor.transaction import InstallerError

if TYPE_CHECKING:
    import subprocess

TIME_LIMIT_S = 1800.0
#: Called with what is being done, at least once a second while it is.
OnOutput = Callable[[str], None]
OF_CONDA = "conda"  #: the source of a distribution that conda's records own: pip shall leave it alone

_CLIENTS = ("conda", "mamba", "micromamba")
_VIRTUAL = ("venv", "virtualenv", "uv")
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


class InstallFailed(InstallerError):
    """An installer ended badly: what it said. `tail` has its last lines."""

    def __init__(self, message: str, tail: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.tail = tuple(tail)


# --- planning -----------------------------------------------------------------------------------------------


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
    if target.kind in _VIRTUAL:
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
    named = _python_path(host)
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
    if any(_name(spec).startswith(cuda) for spec in action.packages):
        counted = Counter(_channel(r.channel) for r in conda.records if r.name.startswith(cuda))
        found = [channel for channel, _ in counted.most_common(1) if basename(channel) != "conda-forge"]
    return [channel for channel in (*found, "conda-forge") if channel]


def _channel(text: str) -> str:
    """Return a record's channel without the machine's folder; "" where it is none, or holds a secret."""
    plain = re.sub(r"/(?:noarch|(?:linux|osx|win)-\w+)?/?$", "", text)
    secret = "@" in plain or "/t/" in plain
    return "" if secret or not re.fullmatch(r"[\w./:~%+-]+", plain) or plain == "pypi" else plain


def _path(host: Host) -> list[str]:
    return [folder for folder in host.environ.get("PATH", "").split(":") if folder.startswith("/")]


def _python_path(host: Host) -> set[str]:
    """Return the folders that only PYTHONPATH brings in: an installer does not see them."""
    return set(filter(None, host.environ.get("PYTHONPATH", "").split(":")))


def _name(spec: str) -> str:
    """Return the package's name in a requirement of pip or a spec of conda."""
    match = re.match(r"[A-Za-z0-9_][A-Za-z0-9._-]*", spec.rpartition("::")[2])
    return match[0].lower() if match else ""


# --- what is installed --------------------------------------------------------------------------------------


class _Record(Struct):
    name: str
    version: str
    build: str = ""
    channel: object = ""
    files: tuple[str, ...] = ()


class _Vcs(Struct):
    vcs: str
    commit_id: str = ""


class _Folder(Struct):
    editable: bool = False


class _DirectUrl(Struct):
    url: str
    vcs_info: _Vcs | None = None
    dir_info: _Folder | None = None
    subdirectory: str = ""


_RECORD_LIMIT = 64 << 20
_RECORDS = msgspec.json.Decoder(_Record)
_DIRECT_URLS = msgspec.json.Decoder(_DirectUrl)


def freeze(target: Target, host: Host) -> tuple[Version, ...]:
    """Return all that is installed: conda's records, which have a build, and distributions.

    A distribution's source is "" from an index, a folder's path where it is editable, else a URL as pip takes
    it, and `OF_CONDA` for one that a conda package brought.
    """
    records = list(_records(target.prefix, host))
    owned = {dirname(file) for record in records for file in record.files if _METADATA.search(file)}
    found = [Version(r.name, r.version, r.build, _channel(str(r.channel))) for r in records]
    return (*found, *_distributions(target, host, {basename(folder) for folder in owned}))


_METADATA = re.compile(r"\.(?:dist|egg)-info/(?:METADATA|PKG-INFO)$")


def _records(prefix: str, host: Host) -> Iterator[_Record]:
    """Yield conda's records; what its file name tells stands in for one that is damaged."""
    folder = f"{prefix}/conda-meta"
    try:
        names = [name for name in host.list(folder) if name.endswith(".json")]
    except OSError:
        return
    for name in names:
        try:
            yield _RECORDS.decode(host.read(f"{folder}/{name}", _RECORD_LIMIT))
        except (OSError, ValueError, RecursionError):
            stem, version, build = ["", "", *name.removesuffix(".json").rsplit("-", 2)][-3:]
            if stem:
                yield _Record(stem, version, build)


def _distributions(target: Target, host: Host, owned: set[str]) -> Iterator[Version]:
    """Yield the distributions that an installer would replace: of a virtual environment only its own."""
    folders = [folder for folder in target.site_packages if folder not in _python_path(host)]
    if target.kind in _VIRTUAL:
        inside = f"{host.realpath(target.prefix)}/"
        folders = [folder for folder in folders if host.realpath(folder).startswith(inside)]
    seen: set[str] = set()
    for folder in folders:
        sources = dict(_sources(host, folder, owned))
        here = seen_in(host, structs.replace(target, site_packages=(folder,)))
        for found in here.distributions:
            if found.name in seen or found.name.startswith("~") or not found.version:
                continue
            seen.add(found.name)
            developed = found.location if not found.location.startswith(folder) else ""
            yield Version(found.name, found.version, "", sources.get(found.name, developed))


def _sources(host: Host, folder: str, owned: set[str]) -> Iterator[tuple[str, str]]:
    """Yield each distribution in a folder that did not come from an index, and where it is from."""
    try:
        names = host.list(folder)
    except OSError:
        return
    for entry in names:
        stem, _, suffix = entry.rpartition(".")
        name = normalise(stem.partition("-")[0])
        if entry in owned:
            yield name, OF_CONDA
        elif suffix == "dist-info":
            try:
                text = host.read(f"{folder}/{entry}/direct_url.json", 1 << 16)
                yield name, _source(_DIRECT_URLS.decode(text))
            except (OSError, ValueError):
                continue


def _source(direct: _DirectUrl) -> str:
    """Return what pip takes to install the same again: an editable folder as its path, all else as a URL."""
    if direct.dir_info is not None and direct.dir_info.editable:
        return unquote(urlsplit(direct.url).path)
    part = f"#subdirectory={direct.subdirectory}" if direct.subdirectory else ""
    if direct.vcs_info is not None:
        commit = f"@{direct.vcs_info.commit_id}" if direct.vcs_info.commit_id else ""
        return f"{direct.vcs_info.vcs}+{direct.url}{commit}{part}"
    return direct.url + part


Changes = tuple[tuple[Version, ...], tuple[Version, ...], tuple[tuple[Version, Version], ...]]


def changed(before: Sequence[Version], now: Sequence[Version]) -> Changes:
    """Return what was added, what was removed, and what was altered, as pairs of was and is.

    Distributions that come and go with their conda packages are not told twice.
    """
    was, is_ = _by_name(before), _by_name(now)
    added = (version for key, version in is_.items() if key not in was)
    removed = (version for key, version in was.items() if key not in is_)
    both = ((was[key], is_[key]) for key in was if key in is_)
    return (
        tuple(version for version in added if version.source != OF_CONDA),
        tuple(version for version in removed if version.source != OF_CONDA),
        tuple(pair for pair in both if pair[0] != pair[1] and {v.source for v in pair} != {OF_CONDA}),
    )


def _by_name(versions: Iterable[Version]) -> dict[tuple[str, bool], Version]:
    return {(version.name, bool(version.build)): version for version in versions}


# --- the way back -------------------------------------------------------------------------------------------


def undo_argvs(step: Install, now: Sequence[Version]) -> tuple[tuple[str, ...], ...]:
    """Return the commands that bring everything back to how it was before `step`: none where it is so."""
    conda = step.tool == "conda"
    before = [version for version in step.before if bool(version.build) == conda]
    added, removed, altered = changed(before, [version for version in now if bool(version.build) == conda])
    away = tuple(version.name for version in added)
    back = (*removed, *(was for was, _ in altered))
    commands = _conda_back(step, away, back) if conda else _pip_back(step, away, back)
    return tuple(commands)


def _conda_back(step: Install, away: tuple[str, ...], back: tuple[Version, ...]) -> Iterator[tuple[str, ...]]:
    """Yield what conda, mamba and micromamba understand alike.

    `--force` leaves those that depend on what goes, `--no-deps` those that what comes depends on.
    """
    client, prefix = step.argv[0], step.argv[step.argv.index("-p") + 1]
    if away:
        yield (client, "remove", "-p", prefix, "--force", "-y", *away)
    if back:
        specs = (f"{v.source}::" * bool(v.source) + f"{v.name}={v.version}={v.build}" for v in back)
        yield (client, "install", "-p", prefix, "--no-deps", "-y", *specs)


def _pip_back(step: Install, away: tuple[str, ...], back: tuple[Version, ...]) -> Iterator[tuple[str, ...]]:
    if step.tool == "uv":
        python = step.argv[step.argv.index("--python") + 1]
        remove: tuple[str, ...] = (step.argv[0], "pip", "uninstall", "--python", python)
        install: tuple[str, ...] = (step.argv[0], "pip", "install", "--python", python, "--reinstall")
    else:
        pip = (step.argv[0], "-m", "pip")
        remove = (*pip, "uninstall", "--no-input", "--disable-pip-version-check", "-y")
        install = (*pip, "install", "--no-input", "--disable-pip-version-check", "--force-reinstall")
    if away:
        yield (*remove, *away)
    if back:
        # By force: another source of the same version would count as installed already.
        yield (*install, "--no-deps", *(word for version in back for word in _requirement(version)))


def _requirement(version: Version) -> tuple[str, ...]:
    if version.source.startswith("/"):
        return ("-e", version.source)
    if version.source and version.source != OF_CONDA:
        return (f"{version.name} @ {version.source}",)
    return (f"{version.name}=={version.version}",)


# --- running ------------------------------------------------------------------------------------------------

#: Settings of the user's that would send the packages elsewhere, change more than is planned, or colour what
#: is read here. Where packages come from (indexes, proxies, certificates) stays as the user has it.
_DROPPED = frozenset((
    "PYTHONPATH", "PYTHONHOME", "PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_PYTHON", "PIP_REQUIREMENT",
    "PIP_EDITABLE", "PIP_UPGRADE", "PIP_FORCE_REINSTALL", "PIP_IGNORE_INSTALLED", "PIP_NO_DEPS",
    "PIP_DRY_RUN", "PIP_BREAK_SYSTEM_PACKAGES", "UV_PYTHON", "UV_SYSTEM_PYTHON", "UV_BREAK_SYSTEM_PACKAGES",
    "UV_OVERRIDE", "FORCE_COLOR", "CLICOLOR_FORCE", "CONDA_DRY_RUN", "CONDA_FORCE_REINSTALL",
))  # fmt: skip
_SET = {
    "PIP_USER": "0",  # also: no quiet turn to the user's own folder where the environment is not writable
    "PIP_NO_INPUT": "1",
    "PIP_PROGRESS_BAR": "off",
    "UV_NO_PROGRESS": "1",
    "NO_COLOR": "1",
    "PYTHONUNBUFFERED": "1",
}
_TORCH_OF_CONDA = frozenset(("pytorch", "pytorch-gpu", "libtorch", "vllm"))
_TAIL_LINES = 200
_TICK_S = 1.0
_GRACE_S = 30.0  #: for an installer that is stopped to take back what it has half done


def silent(what: str) -> None:
    """Say nothing of an installer's progress."""


def install(step: Install, host: Host, on_output: OnOutput = silent) -> None:
    """Run the installer with the stack held at the versions it has; raise InstallFailed."""
    held, what = _held(step), f"installing {' '.join(step.packages)}"
    if step.tool == "conda":
        pins = [f"{version.name}={version.version}={version.build}" for version in held]
        environ = _with(host.environ, {"CONDA_PINNED_PACKAGES": "&", "MAMBA_PINNED_PACKAGES": ","}, pins)
        _run(step.argv, _environ(environ), what, on_output)
        return
    lines = "".join(f"{version.name}=={version.version}\n" for version in held)
    # Both variables are lists with blanks between: a folder with a blank in its name cannot be in them.
    usual = {name: value for name, value in host.environ.items() if name != "TMPDIR" or " " not in value}
    try:
        with host.temporary({"held.txt": lines}, usual) as folder:
            limits = _with(
                host.environ, {"PIP_CONSTRAINT": " ", "UV_CONSTRAINT": " "}, [f"{folder}/held.txt"]
            )
            _run(step.argv, _environ(limits), what, on_output)
    except OSError as error:
        raise InstallFailed(f"{error.filename}: {error.strerror}") from error


def restore(step: Install, target: Target, host: Host, on_output: OnOutput = silent) -> None:
    """Bring everything back to how it was before `step`; raise InstallFailed."""
    for argv in undo_argvs(step, freeze(target, host)):
        _run(argv, _environ(host.environ), "bringing back what was installed", on_output)


def _held(step: Install) -> list[Version]:
    """Return what must stay as it is: torch and its like, and what pip would break of conda's.

    It is told to the installer as a limit, not as a wish: a wish would bring what is missing around it too.
    """
    asked = {_name(spec) for spec in step.packages} | {normalise(_name(spec)) for spec in step.packages}
    if step.tool == "conda":
        return [v for v in step.before if v.build and v.name in _TORCH_OF_CONDA - asked]
    known = [v for v in step.before if not v.build and re.fullmatch(r"[\w.!+]+", v.version)]
    return [v for v in known if v.name not in asked and (_is_stack(v.name) or v.source == OF_CONDA)]


def _is_stack(name: str) -> bool:
    return name in STACK or name.startswith(("nvidia-", "cuda-"))


def _with(environ: Mapping[str, str], names: Mapping[str, str], values: Sequence[str]) -> dict[str, str]:
    """Return the variables with `values` behind what the lists in `names` hold; names say how they part."""
    lists = {name: part.join(filter(None, [environ.get(name, ""), *values])) for name, part in names.items()}
    return {**environ, **{name: value for name, value in lists.items() if value}}


def _environ(environ: Mapping[str, str]) -> dict[str, str]:
    return {**{name: value for name, value in environ.items() if name not in _DROPPED}, **_SET}


def _run(argv: Sequence[str], environ: Mapping[str, str], what: str, on_output: OnOutput) -> None:
    """Run a command of an installer with no input and no terminal; raise InstallFailed.

    Not by `Host.run`: an installer that is stopped needs time to put back what it has taken out, and tells
    what it does for minutes.
    """
    import subprocess

    try:
        # From the root: pip would import from the current folder, uv reads the settings of a project there.
        process = subprocess.Popen(
            argv,
            env=environ,
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        raise InstallFailed(f"{argv[0]}: {getattr(error, 'strerror', None) or error}") from error
    try:
        lines, in_time = _follow(process, lambda: on_output(what))
    finally:
        _stop(process)
    if not in_time:
        raise InstallFailed(f"{argv[0]} took more than {TIME_LIMIT_S / 60:.0f} minutes", lines)
    if process.returncode:
        raise InstallFailed(_reason(lines) or f"{argv[0]} ended with {process.returncode}", lines)


def _follow(process: subprocess.Popen[bytes], tick: Callable[[], None]) -> tuple[list[str], bool]:
    """Read until the program ends or its time is over; return its last lines, and whether it was in time."""
    import selectors

    assert process.stdout is not None
    ends, rest, lines = time.monotonic() + TIME_LIMIT_S, b"", deque[str](maxlen=_TAIL_LINES)
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while time.monotonic() < ends:
            tick()
            ready = selector.select(_TICK_S)
            chunk = os.read(process.stdout.fileno(), 1 << 16) if ready else b""
            *whole, rest = re.split(rb"[\r\n]+", rest + chunk)
            lines += [data.decode("utf-8", "replace").rstrip() for data in whole]
            # A program that has ended may leave a child behind that keeps its output open.
            if not chunk and (ready or process.poll() is not None):
                break
    lines.append(rest.decode("utf-8", "replace").rstrip())
    return [line for line in lines if line], _ends(process, ends - time.monotonic())


def _ends(process: subprocess.Popen[bytes], timeout_s: float) -> bool:
    import subprocess

    try:
        process.wait(max(0.0, timeout_s))
    except subprocess.TimeoutExpired:
        return False
    return True


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End a program that still runs as Ctrl-C would, so that it tidies up; then by force."""
    for how, grace_s in ((signal.SIGINT, _GRACE_S), (signal.SIGKILL, 1.0)):
        if process.poll() is not None:
            break
        try:
            os.killpg(process.pid, how)
        except ProcessLookupError:
            break
        _ends(process, grace_s)
    if process.stdout is not None:
        process.stdout.close()


_TELLS = re.compile(r"^(?:error|fatal|critical)\b|^\w*(?:Error|Exception)\b|^[×x] |╰─▶", re.IGNORECASE)


def _reason(lines: Sequence[str]) -> str:
    """Return the last thing that says what went wrong, with the indented lines that belong to it."""
    plain = [line for line in lines if line.strip() and "for help visit" not in line]
    conflict = [index for index, line in enumerate(plain) if line.startswith("The conflict is caused by")]
    told = conflict or [index for index, line in enumerate(plain) if _TELLS.search(line.strip())]
    if not told:
        return plain[-1].strip() if plain else ""
    more = itertools.takewhile(lambda line: line.startswith(" "), plain[told[-1] + 1 : told[-1] + 6])
    part = "; " if conflict else " "
    head = plain[told[-1]].strip().removeprefix("╰─▶ ")
    return f"{head} {part.join(line.strip() for line in more)}".strip()


# --- prediction ---------------------------------------------------------------------------------------------


def predicted(action: Install, facts: Facts) -> Facts:
    """Return the facts as they will be with the packages there, as far as their names alone tell.

    That is: the packages themselves, the programs ninja and cmake, and in a toolkit that is there already the
    headers, and in conda's the link names, that the known development packages are for. Not: what they
    depend on, versions that the solver picks, and a toolkit, compiler or shared library that was not there
    (see `unforeseen`).
    """
    if isinstance(facts.target, Unknown):
        return facts
    wanted = _Wanted(action.tool == "conda", {_name(s): _pinned(s) for s in action.packages}, facts.target)
    path = facts.environ.path if isinstance(facts.environ, Environ) else ()
    if isinstance(facts.packages, Packages) and not wanted.conda:
        facts = structs.replace(facts, packages=_with_distributions(wanted, facts.packages))
    if isinstance(facts.conda, Conda) and wanted.conda:
        facts = structs.replace(facts, conda=_with_records(wanted, facts.conda))
    if isinstance(facts.tools, BuildTools):
        facts = structs.replace(facts, tools=_with_programs(wanted, facts.tools, path))
    if not isinstance(toolkits := facts.toolkits, Toolkits):
        return facts
    if isinstance(facts.libraries, Libraries) and isinstance(facts.machine, Machine) and wanted.conda:
        links = _with_links(wanted, facts.libraries, toolkits, facts.machine.arch)
        facts = structs.replace(facts, libraries=links)
    return structs.replace(facts, toolkits=_with_headers(wanted, toolkits))


def unforeseen(action: Install) -> tuple[str, ...]:
    """Return the packages of which nothing but the name can be told before they are installed."""
    known = {*_PROGRAMS, "flashinfer-jit-cache", "cuda-driver-dev"}
    known |= {getattr(header.package, by) for header in HEADERS for by in ("conda", "pip13")}
    return tuple(spec for spec in action.packages if _name(spec) not in known)


_PROGRAMS = ("ninja", "cmake")
_PINNED = re.compile(r"[\w.-]+(?:\[[^]]*\])?={1,2}([\w.!+]+)(?:=\w+)?")


class _Wanted(Struct, frozen=True):
    """What shall be installed: name to version, which is "" where it is left to the solver."""

    conda: bool
    names: dict[str, str]
    target: Target


def _pinned(spec: str) -> str:
    match = _PINNED.fullmatch(spec.rpartition("::")[2])
    return match[1] if match else ""


def _with_distributions(wanted: _Wanted, packages: Packages) -> Packages:
    inside = f"{wanted.target.prefix}/"
    sites = wanted.target.site_packages
    site = next((folder for folder in sites if folder.startswith(inside)), next(iter(sites), ""))
    found = list(packages.distributions)
    for name, version in ((normalise(name), version) for name, version in wanted.names.items()):
        there = packages.find(name)
        if there is None or (version and there.version != version):
            found = [d for d in found if d is not there]
            found.append(Distribution(name, version, site, recorded=True))
    flashinfer, cache = packages.flashinfer, "flashinfer-jit-cache"
    if flashinfer is not None and wanted.names.get(cache):
        flashinfer = structs.replace(flashinfer, jit_cache=wanted.names[cache])
    return structs.replace(packages, distributions=tuple(found), flashinfer=flashinfer)


def _with_records(wanted: _Wanted, conda: Conda) -> Conda:
    records = {record.name: record for record in conda.records}
    for name, version in wanted.names.items():
        if name not in records or (version and not f"{records[name].version}.".startswith(f"{version}.")):
            records[name] = CondaRecord(name, version)
    more = len(records) - len(conda.records)
    return structs.replace(conda, records=tuple(records.values()), count=conda.count + more)


def _with_programs(wanted: _Wanted, tools: BuildTools, path: Sequence[str]) -> BuildTools:
    found = dict(tools.tools)
    folder = f"{wanted.target.prefix}/bin"
    for name in wanted.names.keys() & set(_PROGRAMS):
        if not found.get(name, BuildTool()).path:
            place = f"{folder}/{name}"
            version = wanted.names[name]
            found[name] = (
                BuildTool(place, version) if folder in path else BuildTool("", version, elsewhere=place)
            )
    return structs.replace(tools, tools=found)


def _own(wanted: _Wanted, toolkits: Toolkits) -> Toolkit | None:
    """Return the toolkit that the installer's CUDA packages will be a part of, where there is one already."""
    layout, prefix = ("conda" if wanted.conda else "pip-cu13"), wanted.target.prefix
    same = (toolkit for toolkit in toolkits.toolkits if toolkit.layout == layout)
    return next((t for t in same if t.root == prefix or t.root.startswith(f"{prefix}/")), None)


def _with_headers(wanted: _Wanted, toolkits: Toolkits) -> Toolkits:
    by = "conda" if wanted.conda else "pip13"
    brought = {h.name: getattr(h.package, by) for h in HEADERS if getattr(h.package, by) in wanted.names}
    own = _own(wanted, toolkits)
    # Conda keeps them under targets/: the folder at the root holds other packages' headers.
    usual = own.include if own is not None else ()
    folder = next((f for f in usual if "/targets/" in f or not wanted.conda), "")
    if not folder or not brought:
        return toolkits
    was = toolkits.headers.get(folder, HeaderDirectory(True))
    names = tuple(h.name for h in HEADERS if h.name in was.headers or h.name in brought)
    release = ".".join(wanted.names.get(brought.get("cuda_runtime_api.h", ""), "").split(".")[:2])
    now = structs.replace(was, headers=names, cudart_version=release or was.cudart_version)
    return structs.replace(toolkits, headers={**toolkits.headers, folder: now})


def _with_links(wanted: _Wanted, libraries: Libraries, toolkits: Toolkits, arch: str) -> Libraries:
    own = _own(wanted, toolkits)
    if own is None:
        return libraries
    file = LibraryFile("shared", arch, 64)
    files = {f"lib{name}.so": file for name in _link_names(wanted.names)}
    stubs = {"libcuda.so": file} if "cuda-driver-dev" in wanted.names else {}
    places = {**dict.fromkeys(own.lib, files), **dict.fromkeys(own.stubs, stubs)}
    found = dict(libraries.directories)
    for folder, directory in libraries.directories.items():
        new = places.get(folder.rstrip("/")) or places.get(directory.real)
        if new and directory.exists:
            kept = {n: f for n, f in directory.files.items() if n not in new or f.kind in _LINKABLE}
            asked = {name: file for name, file in new.items() if name in libraries.names}
            found[folder] = structs.replace(directory, files={**asked, **kept})
    return structs.replace(libraries, directories=found)


_LINKABLE = ("shared", "archive", "script")


def _link_names(names: Iterable[str]) -> list[str]:
    """Return the libraries whose link names these development packages of conda bring."""
    dev = {header.package.conda for header in HEADERS if header.package.conda.endswith("-dev")}
    stems = [re.sub(r"^(?:cuda-|lib)|-dev$", "", name) for name in names if name in dev]
    return [*stems, *(["cublasLt"] if "cublas" in stems else [])]
