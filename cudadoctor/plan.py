"""From findings to changes: the smallest set that clears them, tried on the machine as it would be.

The order of preference is: correct a wrong variable, make one link, add an export to the environment's own
activation files, install a package. It is kept by taking the changes rank by rank and looking again, over an
overlay of the machine, before the next rank is asked for: what a corrected variable has cleared already
needs no link. A saved report has no machine: its plan is made in one go, and nothing is predicted.
"""

from __future__ import annotations

import posixpath
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from msgspec import Struct, structs

from cudadoctor.actions import (
    Action,
    Export,
    Install,
    MakeFolder,
    MakeLink,
    MoveAside,
    RemoveLink,
    Safety,
    Show,
    Step,
    TurnLink,
    WriteFile,
)
from cudadoctor.declare import Fix
from cudadoctor.facts import Caches, Facts, Target
from cudadoctor.findings import Remedy
from cudadoctor.ground import Conflict, Ground
from cudadoctor.host import Host
from cudadoctor.report import Report

#: Variables that decide which toolkit or compiler is used: what they change can make a link needless.
_FIRST = ("CUDA_HOME", "CUDA_PATH", "CC", "CXX")
#: Variables that a link can make needless.
_AFTER_LINKS = ("LIBRARY_PATH", "CPATH", "FLASHINFER_EXTRA_LDFLAGS")
_ROUNDS = 8
_ENVIRONMENTS = ("conda", "pixi", "venv", "virtualenv", "uv")


class Change(Struct, frozen=True):
    """One line of a plan: what is done at one place, for whom, and the steps that it takes."""

    fix: str
    safety: Safety
    actions: tuple[Action, ...]
    checks: tuple[str, ...]  #: names of the checks whose findings asked for it
    steps: tuple[Step, ...] = ()
    refused: str = ""  #: why it is not carried out here
    by_hand: str = ""  #: the command that would do it, where there is one


class ByHand(Conflict):
    """A conflict that the user can get around with a command."""

    def __init__(self, why: str, command: str) -> None:
        super().__init__(why)
        self.command = command


class Plan(Struct, frozen=True):
    """What would be changed, what would not, and what comes of it."""

    changes: tuple[Change, ...]
    held: tuple[Change, ...]  #: not carried out: manual, unsafe without --unsafe, or refused with its reason
    found: int  #: findings that count, now
    cleared: tuple[str, ...] = ()  #: names of the checks of each finding that goes, as predicted
    predicted: Report | None = None  #: None: there was no machine to predict it on

    @property
    def steps(self) -> tuple[tuple[Change, Step], ...]:
        """Return every step with its change, in order."""
        return tuple((change, step) for change in self.changes for step in change.steps)


class Site(Struct, frozen=True):
    """The machine that a plan is for."""

    host: Host
    ground: Ground
    target: Target
    prefix: str  #: the target's folder with every link resolved
    look: Callable[[Host], Facts]  #: probe over another host
    judge: Callable[[Facts], Report]
    overlay: Callable[[Host, Mapping[str, str], Sequence[Step]], Host]
    prepare: Callable[[Install, Facts], Install]  #: choose the installer; raises Conflict
    expect: Callable[[Install, Facts], Facts]  #: what the facts would be with the packages, by metadata


class Wanted(Struct, frozen=True):
    """What the user asked for."""

    names: tuple[str, ...] = ()  #: checks or fixes; none: all
    unsafe: bool = False


def roots_of(target: Target, host: Host) -> tuple[str, ...]:
    """Return the folders of a target that may be changed, with every link resolved.

    Of a Python that is no environment of its own only the folders that pip installs into.
    """
    folders = (target.prefix,) if target.kind in _ENVIRONMENTS else target.site_packages
    return tuple(
        dict.fromkeys(host.realpath(folder) for folder in folders if host.kind(folder) == "directory")
    )


def make_plan(report: Report, fixes: Mapping[str, Fix], wanted: Wanted, site: Site | None) -> Plan:
    """Return the plan for a report; touches nothing."""
    return _Planner(report, fixes, wanted, site).plan()


class _Wish(Struct, frozen=True):
    """One thing that would help a finding, the least change first."""

    check: str
    remedies: tuple[Remedy, ...]


class _Planner:
    """Takes changes until no finding is left that any of them clears."""

    def __init__(self, report: Report, fixes: Mapping[str, Fix], wanted: Wanted, site: Site | None) -> None:
        self.report, self.fixes, self.wanted, self.site = report, fixes, wanted, site
        served = {
            r.fix for _, f in report.findings() for remedy in f.remedies for r in (remedy, *remedy.instead)
        }
        #: Fixes asked for by name that no finding wants.
        self.alone = [name for name in wanted.names if name in fixes and name not in served]
        self.taken: dict[object, Change] = {}
        self.staged: Host | None = None  #: the machine after what is taken; None: to be made
        self.rejected: dict[object, str] = {}

    def plan(self) -> Plan:
        report = self._take_all(self.report)
        while self.site is not None and (idle := self._idle(report)):
            self.staged = None
            for key in idle:
                del self.taken[key]
                self.rejected[key] = "would not clear it"
            report = self._predict()
        changes = tuple(self._grouped())
        left = report if self.site is not None else None
        held = tuple(self._held(report))
        cleared = tuple((_count(self.report) - _count(report)).elements()) if left is not None else ()
        return Plan(changes, held, sum(_count(self.report).values()), cleared, left)

    def _take_all(self, report: Report) -> Report:
        for _ in range(_ROUNDS):
            batch = self._batch(report)
            self.taken |= batch
            self.staged = None
            if not batch or self.site is None:
                break
            report = self._predict()
        return report

    def _batch(self, report: Report) -> dict[object, Change]:
        """Return the changes of the first rank that any finding asks for, and those no other rank touches."""
        doable: dict[object, Change] = {}
        for wish in _wishes(report, self.wanted.names, self.alone):
            for remedy in wish.remedies:
                change = self._change(remedy, wish.check, report.facts)
                key = _key(change)
                if key in self.taken or key in doable:
                    where = self.taken if key in self.taken else doable
                    where[key] = _also_for(where[key], wish.check)
                    break
                if not self._why_held(change):
                    doable[key] = change
                    break
        if self.site is None:
            return doable
        first = min(map(_rank, doable.values()), default=0)
        batch: dict[object, Change] = {}
        for key, change in doable.items():
            if _rank(change) in (first, _APART) and not _collides(change, batch.values()):
                batch[key] = change
        return batch

    def _change(self, remedy: Remedy, check: str, facts: Facts) -> Change:
        """Return what a remedy comes to here, with its steps; `refused` says why it cannot be done."""
        fix, checks = self.fixes.get(remedy.fix), (check,) if check else ()
        shown = (Show(remedy.summary),) if remedy.summary else ()
        if fix is None:
            return Change(remedy.fix, Safety.MANUAL, shown, checks, (), f"no fix is called {remedy.fix}")
        try:
            actions = tuple(fix.plan(remedy, facts))
        except ValueError as error:
            return Change(fix.name, Safety.MANUAL, shown, checks, (), str(error))
        safety = Safety.MANUAL if all(isinstance(a, Show) for a in actions) else fix.safety
        change = Change(fix.name, safety, actions, checks)
        if self.site is None or safety is Safety.MANUAL or any(isinstance(a, Export) for a in actions):
            return change
        if _key(change) in self.rejected:
            return structs.replace(change, refused=self.rejected[_key(change)])
        return self._with_steps(change, facts)

    def _with_steps(self, change: Change, facts: Facts) -> Change:
        try:
            return structs.replace(change, steps=tuple(self._lowered(change.actions, facts)))
        except ByHand as conflict:
            return structs.replace(change, refused=str(conflict), by_hand=conflict.command)
        except Conflict as conflict:
            return structs.replace(change, refused=str(conflict))

    def _why_held(self, change: Change) -> str:
        """Return why a change is not carried out, or "" where it is."""
        if change.refused:
            return change.refused
        if _key(change) in self.rejected:
            return self.rejected[_key(change)]
        if change.safety is Safety.MANUAL or not change.actions:
            return "shown only"
        if change.safety is Safety.UNSAFE and not self.wanted.unsafe:
            return "needs --unsafe"
        if self.site is not None and any(isinstance(action, Export) for action in change.actions):
            try:
                self._files([*self._exports(), *_exports_of(change)])
            except Conflict as conflict:
                return str(conflict)
        return ""

    # --- what it comes to on this machine -------------------------------------------------------------------

    def _predict(self) -> Report:
        """Return the report on the machine as it would be with what is taken so far."""
        site = self.site
        assert site is not None
        facts = site.look(self._overlay())
        for change in self.taken.values():
            for step in change.steps:
                if isinstance(step, Install):
                    facts = site.expect(step, facts)
        return site.judge(facts)

    def _overlay(self) -> Host:
        """Return the machine as it would be with what is taken so far."""
        site = self.site
        assert site is not None
        if self.staged is not None:
            return self.staged
        steps = [step for change in self._grouped() for step in change.steps]
        environ = dict(site.host.environ)
        if site.target.active:
            from cudadoctor.exports import outcome

            for name, value in outcome(self._exports(), environ, site.prefix).items():
                environ.pop(name, None)
                environ |= {} if value is None else {name: value}
        self.staged = site.overlay(site.host, environ, steps)
        return self.staged

    def _exports(self) -> list[Export]:
        return [export for change in self.taken.values() for export in _exports_of(change)]

    def _grouped(self) -> Iterator[Change]:
        """Yield the changes as lines of a plan: all exports go into the same files, and so are one line."""
        exporting = [change for change in self.taken.values() if any(_exports_of(change))]
        for change in self.taken.values():
            if change not in exporting and not isinstance(change.actions[0], Install):
                yield change
        if exporting:
            yield self._exported(exporting)
        if self.site is not None and (stale := self._stale()):
            yield stale
        yield from self._installs(
            [c for c in self.taken.values() if isinstance(c.actions[0], Install)], self.report.facts
        )

    def _installs(self, changes: Sequence[Change], facts: Facts) -> Iterator[Change]:
        """Yield one install for each installer: solving once is faster, and the packages must agree."""
        tools = dict.fromkeys(_installs(change).tool for change in changes)
        for tool in tools:
            same = [change for change in changes if _installs(change).tool == tool]
            if len(same) == 1:
                yield same[0]
                continue
            packages = dict.fromkeys(name for change in same for name in _installs(change).packages)
            checks = tuple(dict.fromkeys(check for change in same for check in change.checks))
            joined = Change(same[0].fix, same[0].safety, (Install(tool, tuple(packages)),), checks)
            yield joined if self.site is None else self._with_steps(joined, facts)

    def _exported(self, changes: Sequence[Change]) -> Change:
        from cudadoctor.exports import merged

        exports = merged((), [export for change in changes for export in _exports_of(change)])
        names = ", ".join(dict.fromkeys(change.fix for change in changes))
        unsafe = any(change.safety is Safety.UNSAFE for change in changes)
        checks = tuple(dict.fromkeys(check for change in changes for check in change.checks))
        steps = tuple(self._files(exports)) if self.site is not None else ()
        return Change(names, Safety.UNSAFE if unsafe else Safety.SAFE, tuple(exports), checks, steps)

    def _files(self, exports: Sequence[Export]) -> Iterator[Step]:
        """Return the steps that put exports into the activation files; raise Conflict."""
        from cudadoctor.exports import Edited, NoActivation, files, merged, persisted

        site = self.site
        assert site is not None

        def read(path: str) -> bytes | None:
            was = site.ground.read(path)
            return None if was is None else was.content

        try:
            before = persisted(site.target.kind, site.prefix, read)
            if isinstance(before, Edited):
                raise Conflict(f"{before.path}: was edited by hand")
            written = files(site.target.kind, site.prefix, merged(before, exports), read)
        except NoActivation as reason:
            raise Conflict(str(reason)) from None
        made: set[str] = set()
        steps: list[Step] = []
        for path, content in written.files.items():
            site.ground.must_be_writable(path)
            steps += self._folders(path, made, site.host)
            was = site.ground.read(path)
            steps.append(WriteFile(path, content, was.mode if was else 0o644, was))
        return iter(steps)

    def _stale(self) -> Change | None:
        """Return the moving aside of operators that would go on with what the exports change."""
        from cudadoctor.simulate.ninja import stale_after

        caches = self.report.facts.caches
        names = {export.name for export in self._exports()}
        paths = stale_after(names, caches) if names and isinstance(caches, Caches) else ()
        asked = {s.path for change in self.taken.values() for s in change.steps if isinstance(s, MoveAside)}
        actions = tuple(MoveAside(path) for path in paths if path not in asked)
        if not actions:
            return None
        try:
            steps = tuple(self._lowered(actions, self.report.facts))
        except Conflict as conflict:
            return Change("jit-caches", Safety.SAFE, actions, (), (), str(conflict))
        return Change("jit-caches", Safety.SAFE, actions, (), steps)

    def _lowered(self, actions: Sequence[Action], facts: Facts) -> Iterator[Step]:
        """Yield the steps of actions, on the ground as it is with what is taken so far; raise Conflict."""
        site = self.site
        assert site is not None
        host = self._overlay() if self.taken else site.host
        made: set[str] = set()
        for action in actions:
            match action:
                case MakeLink():
                    yield from self._link(action, made, host)
                case TurnLink() | RemoveLink():
                    yield from self._old_link(action, host)
                case MoveAside():
                    yield self._aside(action, facts, host)
                case Install():
                    yield site.prepare(action, facts)
                case MakeFolder() | WriteFile():
                    raise Conflict(f"{action.path}: a fix asks for links, exports or installs, not for this")

    def _link(self, action: MakeLink, made: set[str], host: Host) -> Iterator[Step]:
        path, text = self._placed(action.path, action.text, host)
        kind = host.kind(path, follow=False)
        if kind == "link" and host.readlink(path) == text:
            return
        if kind:
            what = f"is a link to {host.readlink(path)}" if kind == "link" else f"a {kind} stands there"
            raise Conflict(f"{path}: {what}")
        yield from self._folders(path, made, host)
        yield MakeLink(path, text)

    def _old_link(self, action: TurnLink | RemoveLink, host: Host) -> Iterator[Step]:
        text = action.text if isinstance(action, TurnLink) else ""
        path, text = self._placed(action.path, text, host)
        if host.kind(path, follow=False) != "link" or host.readlink(path) != action.before:
            raise Conflict(f"{path}: is no longer a link to {action.before}")
        if text != action.before:
            yield structs.replace(action, path=path, **({"text": text} if text else {}))

    def _placed(self, path: str, text: str, host: Host) -> tuple[str, str]:
        """Return a link's real place and its text as it must be there; raise Conflict outside our ground."""
        site = self.site
        assert site is not None
        folder = posixpath.dirname(path)
        real = host.realpath(folder)
        place = f"{real.rstrip('/')}/{posixpath.basename(path)}"
        if not site.ground.within(place):
            raise Conflict(f"{place}: is outside the environment")
        if real != posixpath.normpath(folder) and text and not text.startswith("/"):
            target = posixpath.normpath(posixpath.join(folder, text))
            there = f"{host.realpath(posixpath.dirname(target)).rstrip('/')}/{posixpath.basename(target)}"
            text = posixpath.relpath(there, real)
        site.ground.must_be_writable(place)
        return place, text

    def _folders(self, path: str, made: set[str], host: Host) -> list[Step]:
        """Return the making of each folder above `path` that is not there, once each."""
        missing = []
        folder = posixpath.dirname(path)
        while folder not in made and not host.kind(folder, follow=False):
            missing.append(folder)
            made.add(folder)
            folder = posixpath.dirname(folder)
        return [MakeFolder(name) for name in reversed(missing)]

    def _aside(self, action: MoveAside, facts: Facts, host: Host) -> MoveAside:
        site = self.site
        assert site is not None
        folder, name = posixpath.split(action.path)
        real = host.realpath(folder)
        path = f"{real.rstrip('/')}/{name}"
        if not site.ground.within(path):
            caches = facts.caches.folders if isinstance(facts.caches, Caches) else ()
            if not any(f"{action.path}/".startswith(f"{cache.path}/") for cache in caches):
                raise Conflict(f"{action.path}: is no cache of this environment's programs")
            site.ground.add(real)
        if host.kind(path, follow=False) not in ("directory", "file"):
            raise Conflict(f"{path}: is gone")
        site.ground.must_be_writable(path)
        aside, number = f".{name}.cudadoctor-aside", 1
        while host.kind(f"{real}/{aside}", follow=False):
            number += 1
            aside = f".{name}.cudadoctor-aside-{number}"
        return MoveAside(path, aside)

    # --- what is left ---------------------------------------------------------------------------------------

    def _idle(self, report: Report) -> list[object]:
        """Return the changes that clear none of the findings that asked for them."""
        before, after = _count(self.report), _count(report)
        return [
            key
            for key, change in self.taken.items()
            if change.checks
            and not any(after[check] < before[check] for check in change.checks)
            and all(before[check] for check in change.checks)
        ]

    def _held(self, report: Report) -> Iterator[Change]:
        """Yield what would help the findings that are left, and is not done."""
        found: dict[object, Change] = {}
        for wish in _wishes(report, self.wanted.names, self.alone):
            for remedy in wish.remedies:
                change = self._change(remedy, wish.check, report.facts)
                key = _key(change)
                if key in self.taken:
                    break
                if key in found:
                    found[key] = _also_for(found[key], wish.check)
                elif change.actions:
                    found[key] = structs.replace(change, refused=self._why_held(change))
        installs = [c for c in found.values() if isinstance(c.actions[0], Install)]
        yield from (change for change in found.values() if change not in installs)
        for change in self._installs(installs, report.facts):
            yield structs.replace(change, refused=change.refused or "needs --unsafe")


_APART = 9  #: the rank of what no other change can make needless


def _rank(change: Change) -> int:
    action = change.actions[0]
    match action:
        case Export() if action.name in _FIRST:
            return 0
        case MakeLink() | TurnLink() | RemoveLink() | MakeFolder() | WriteFile():
            return 1
        case Export() if action.name in _AFTER_LINKS:
            return 2
        case Install():
            return 3
    return _APART


def _exports_of(change: Change) -> list[Export]:
    return [action for action in change.actions if isinstance(action, Export)]


def _installs(change: Change) -> Install:
    action = change.actions[0]
    assert isinstance(action, Install)
    return action


def _collides(change: Change, others: Iterable[Change]) -> bool:
    """Return whether a change makes something at, above or below what another one makes."""
    mine = [action.path for action in change.actions if isinstance(action, (MakeLink, TurnLink, RemoveLink))]
    theirs = [
        action.path
        for other in others
        for action in other.actions
        if isinstance(action, (MakeLink, TurnLink, RemoveLink))
    ]
    return any(f"{a}/".startswith(f"{b}/") or f"{b}/".startswith(f"{a}/") for a in mine for b in theirs)


def _key(change: Change) -> object:
    """Return what makes two changes the same one."""
    return (change.fix if not change.actions else "", change.actions)


def _also_for(change: Change, check: str) -> Change:
    return structs.replace(change, checks=tuple(dict.fromkeys([*change.checks, check])))


def _count(report: Report) -> Counter[str]:
    return Counter(name for name, _ in report.findings())


def _wishes(report: Report, names: Sequence[str], alone: Sequence[str]) -> Iterator[_Wish]:
    """Yield what each finding asks for, then the fixes that are asked for without one."""
    for check, finding in report.findings():
        for remedy in finding.remedies:
            chain = (remedy, *remedy.instead)
            if not names or check in names or any(r.fix in names for r in chain):
                yield _Wish(check, tuple(structs.replace(r, instead=()) for r in chain))
    for name in alone:
        yield _Wish("", (Remedy(name),))
