"""Collects the facts that the chosen checks need, then lets the checks judge them.

Nothing that goes wrong on the machine or in a check raises; only what the user named wrongly does (NoTarget).
"""

from __future__ import annotations

import importlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping

from msgspec import structs

from cudadoctor.bounded import Overdue, bounded
from cudadoctor.declare import Check, where
from cudadoctor.facts import Facts, Launch, Unknown
from cudadoctor.host import Host
from cudadoctor.mistakes import UserMistake
from cudadoctor.outcomes import Crashed, Outcome, Skipped
from cudadoctor.probes.target import NoTarget, Request

#: Each section and the sections that its probe builds on, in an order in which all can be had; `request` is
#: what the user asked for. What ends in "?" may be missing: None stands for it.
PROBES: dict[str, tuple[str, ...]] = {
    "machine": (),
    "target": (),
    "environ": ("target", "request"),
    "packages": ("target",),
    "conda": ("target",),
    "tools": ("target", "environ", "packages"),
    "compilers": ("environ", "packages"),
    "toolkits": ("target", "environ", "packages", "conda", "machine"),
    "libraries": ("environ", "packages", "toolkits", "compilers", "machine"),
    "objects": ("target", "environ", "packages"),
    "caches": ("target", "environ", "packages", "machine"),
    "repairs": ("target",),
    "driver": ("environ",),
    "kernels": ("packages", "driver"),
    "ptxas": ("environ", "packages", "toolkits", "driver"),
    "builds": ("environ", "packages"),
    "dlpack": ("target", "environ", "packages", "machine"),
    "storage": ("target", "environ", "packages", "machine", "caches", "dlpack"),
    "hub": ("target", "environ", "packages", "machine"),
    "launch": ("request", "target", "environ", "packages"),
    "card": ("request", "driver", "environ", "machine", "launch"),
    "model": ("request", "launch", "environ", "packages", "machine"),
    "resources": ("request", "launch", "environ"),
    "paths": ("launch", "environ", "packages", "model?", "card?"),
    "deep": ("target", "environ", "packages", "toolkits", "compilers", "libraries", "machine"),
    "live": ("target", "environ", "packages", "dlpack"),
    "symbols": ("environ", "packages", "objects"),
}
#: Sections that are collected with --deep only: they run the real thing.
DEEP = frozenset(("deep", "live", "symbols"))
#: Sections that are about a launch, which only some commands are given.
LAUNCH = frozenset(("launch", "card", "model", "resources", "paths"))
#: Sections whose probes wait for a program. These, and what builds on them, wait side by side; the others
#: take turns: threads that all read small files only take the interpreter from each other.
WAITING = frozenset(("compilers", "toolkits", "driver", *DEEP))
TIMEOUT_S = 20.0
DEEP_TIMEOUT_S = 600.0
CHECK_TIMEOUT_S = 10.0


class _Cell:
    """The place where one probe leaves its section for those that wait for it."""

    def __init__(self) -> None:
        self.ready = threading.Event()
        self.section: object = None
        self._filling = threading.Lock()

    def put(self, section: object) -> None:
        """Leave the section, once and for all: what comes later is late, and others have read this one."""
        with self._filling:
            if not self.ready.is_set():
                self.section = section
                self.ready.set()


def needed(checks: Iterable[Check], deep: bool = False, also: Iterable[str] = ()) -> set[str]:
    """Return the sections that these checks need, `also` these, and those that their probes build on."""
    wanted = {name for check in checks for name in check.needs} | {"target", *also}
    if not deep:
        wanted -= DEEP
    for section in reversed(PROBES):
        if section in wanted:
            wanted |= {name.rstrip("?") for name in PROBES[section]} - {"request"}
    return wanted


def everything(deep: bool = False) -> set[str]:
    """Return every section; those that run the real thing only where that is asked for."""
    return set(PROBES) if deep else set(PROBES) - DEEP


def collect(
    host: Host, wanted: Iterable[str], request: Request, on_wait: Callable[[list[str]], None] | None = None
) -> Facts:
    """Probe the wanted sections; raise NoTarget or UserMistake for what the user named wrongly.

    `on_wait` is told once a second which sections are still to come.

    A probe that fails, or does not end in time, leaves an Unknown with the reason.
    """
    left_out = LAUNCH if request.launch is None else frozenset()
    names = [name for name in PROBES if name in set(wanted) - left_out]
    cells = {name: _Cell() for name in (*names, "request")}
    cells["request"].put(request)
    if "target" in cells:
        cells["target"].put(_target(host, request))
    line = _Line(host, cells, names)
    line.start()

    def wait(missing: list[str]) -> None:
        line.start_another()
        if on_wait is not None:
            on_wait(missing)

    _await({name: cell for name, cell in cells.items() if name not in DEEP}, TIMEOUT_S, wait)
    _await({name: cell for name, cell in cells.items() if name in DEEP}, DEEP_TIMEOUT_S, wait)
    sections = {name: cells[name].section for name in names}
    if mistaken := next((each for each in sections.values() if type(each) is _Mistaken), None):
        raise UserMistake(mistaken.reason)
    for name in DEEP - set(sections):
        sections[name] = Unknown("runs only with --deep", expected=True)
    for name in LAUNCH - set(sections):
        sections[name] = Unknown("no launch was given (see: cudadoctor preflight)", expected=True)
    return Facts(**sections)  # type: ignore[arg-type]


class _Mistaken(Unknown, frozen=True):
    """A section for which the user named something that cannot be read."""


class _Line:
    """The probes that are still to begin."""

    def __init__(self, host: Host, cells: Mapping[str, _Cell], names: Iterable[str]) -> None:
        self._host, self._cells = host, cells
        waiting: set[str] = set()
        for name in names:  # in an order in which all can be had
            if name in WAITING or not waiting.isdisjoint(each.rstrip("?") for each in PROBES[name]):
                waiting.add(name)
        self._apart = waiting
        self._turns = deque(name for name in names if name not in waiting and name != "target")

    def start(self) -> None:
        """Let those that wait for programs wait, and the others take turns."""
        for name in PROBES:
            if name in self._apart:
                threading.Thread(target=_probe, args=(name, self._host, self._cells), daemon=True).start()
        self.start_another()

    def start_another(self) -> None:
        """Go on with those whose turn is still to come, beside one that hangs."""
        if self._turns:
            threading.Thread(target=self._take_turns, daemon=True).start()

    def _take_turns(self) -> None:
        while self._turns:
            try:
                name = self._turns.popleft()
            except IndexError:  # another took the last one
                return
            _probe(name, self._host, self._cells)


def _await(cells: Mapping[str, _Cell], timeout_s: float, on_wait: Callable[[list[str]], None]) -> None:
    """Wait until every cell is filled; what is still empty when the time is over becomes Unknown."""
    deadline = time.monotonic() + timeout_s
    for cell in cells.values():
        while not cell.ready.wait(min(1.0, max(0.0, deadline - time.monotonic()))):
            if time.monotonic() >= deadline:
                cell.put(Unknown("did not end in time (a file system that does not answer?)"))
            else:
                on_wait([name for name, other in cells.items() if not other.ready.is_set()])


def _target(host: Host, request: Request) -> object:
    """Find the target first and alone: without one there is nothing to diagnose."""
    from cudadoctor.probes import target

    try:
        return bounded(lambda: target.probe(host, request), TIMEOUT_S)
    except (NoTarget, UserMistake):
        raise
    except Overdue:
        return Unknown("did not end in time (a file system that does not answer?)")
    except Exception as error:
        return _failed(error)


def _probe(name: str, host: Host, cells: Mapping[str, _Cell]) -> None:
    try:
        arguments: list[object] = []
        for need in PROBES[name]:
            dependency = need.rstrip("?")
            cells[dependency].ready.wait()
            section = cells[dependency].section
            if isinstance(section, Unknown) and need.endswith("?"):
                arguments.append(None)
                continue
            if isinstance(section, Unknown):
                cells[name].put(structs.replace(section, reason=f"{dependency}: {section.reason}"))
                return
            arguments.append(section)
        if name in LAUNCH and any(isinstance(each, Launch) and each.kind == "other" for each in arguments):
            cells[name].put(Unknown("the command is no launch of vLLM", expected=True))
            return
        module = importlib.import_module(f"cudadoctor.probes.{name}")
        cells[name].put(module.probe(host, *arguments))
    except UserMistake as mistake:
        cells[name].put(_Mistaken(str(mistake)))
    except Exception as error:
        cells[name].put(_failed(error))


def _failed(error: BaseException) -> Unknown:
    """Tell what the machine refused from what is a bug of the probe."""
    if isinstance(error, OSError) and error.strerror:
        return Unknown(f"{error.filename}: {error.strerror}" if error.filename else error.strerror)
    return Unknown(where(error), crashed=True)


def examine(facts: Facts, checks: Iterable[Check], trusted: Iterable[str] = ()) -> list[Outcome]:
    """Let each check judge; a plug-in's check gets a time limit, ours are known to end."""
    own = set(trusted)
    launch = facts.launch
    contained = not isinstance(launch, Unknown) and launch.contained
    if contained and not isinstance(launch, Unknown) and not isinstance(facts.environ, Unknown):
        inside = structs.replace(facts.environ, variables=launch.variables, judged="those of the container")
        facts = structs.replace(facts, environ=inside)
    return [
        Skipped(check.name, _ELSEWHERE)
        if contained and not _beside_containers(check)
        else check.run(facts)
        if check.name in own
        else _bounded(check, facts)
        for check in checks
    ]


_ELSEWHERE = "the launch runs in a container, which has an environment of its own"
#: What is the same inside a container and out; `packages` and `environ` only tell which driver is wanted.
_SHARED = frozenset(("driver", "machine", "environ", "packages"))


def _beside_containers(check: Check) -> bool:
    """Return whether a check is about the launch, or about the driver that containers share."""
    needs = set(check.required)
    return not needs.isdisjoint(LAUNCH) or ("driver" in needs and needs <= _SHARED)


def _bounded(check: Check, facts: Facts) -> Outcome:
    try:
        return bounded(lambda: check.run(facts), CHECK_TIMEOUT_S)
    except Overdue:
        return Crashed(check.name, f"did not end within {CHECK_TIMEOUT_S:g} s", CHECK_TIMEOUT_S * 1000)
