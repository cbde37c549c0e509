"""Installers at work: started, watched, stopped, and what they said when they failed."""

from __future__ import annotations

import itertools
import os
import re
import signal
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from cudadoctor.actions import Install, InstallerError, Version
from cudadoctor.facts import Target
from cudadoctor.host import Host
from cudadoctor.installers.back import undo_argvs
from cudadoctor.installers.inventory import OF_CONDA, freeze, name_of
from cudadoctor.probes.packages import STACK, normalise

if TYPE_CHECKING:
    import subprocess

TIME_LIMIT_S = 1800.0
#: Called with what is being done, at least once a second while it is.
OnOutput = Callable[[str], None]

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


class InstallFailed(InstallerError):
    """An installer ended badly: what it said, in one line."""


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
    asked = {name_of(spec) for spec in step.packages} | {normalise(name_of(spec)) for spec in step.packages}
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
        with _interruptible():
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
        raise InstallFailed(f"{argv[0]} took more than {TIME_LIMIT_S / 60:.0f} minutes")
    if process.returncode:
        raise InstallFailed(_reason(lines) or f"{argv[0]} ended with {process.returncode}")


@contextmanager
def _interruptible() -> Iterator[None]:
    """Let a program started here hear Ctrl-C: a script's background job is deaf to it, its children too."""
    deaf = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    if deaf:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        if deaf:
            signal.signal(signal.SIGINT, signal.SIG_IGN)


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
