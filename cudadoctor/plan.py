"""From findings to changes: the smallest set that clears them, tried on the machine as it would be.

The order of preference is: correct a wrong variable, make one link, add an export to the environment's own
activation files, install a package. It is kept by taking the changes rank by rank and looking again, over an
overlay of the machine, before the next rank is asked for: what a corrected variable has cleared already
needs no link. A saved report has no machine: its plan is made in one go, and nothing is predicted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

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
from cudadoctor.declare import Fix, where
from cudadoctor.facts import Caches, Facts
from cudadoctor.findings import Finding, Remedy
from cudadoctor.ground import Conflict
from cudadoctor.host import Host
from cudadoctor.lowering import ByHand, Site, exported, lowered
from cudadoctor.report import Report

#: Variables that decide which toolkit or compiler is used: what they change can make a link needless.
_FIRST = ("CUDA_HOME", "CUDA_PATH", "CC", "CXX")
#: Variables that a link can make needless.
_AFTER_LINKS = ("LIBRARY_PATH", "CPATH", "FLASHINFER_EXTRA_LDFLAGS")
_ROUNDS = 8


class Change(Struct, frozen=True):
    """One line of a plan: what is done at one place, for whom, and the steps that it takes.

    Its actions are of one kind: all exports, all installs, all words, or else links and moves.
    """

    fix: str
    safety: Safety
    actions: tuple[Action, ...]
    checks: tuple[str, ...]  #: names of the checks whose findings asked for it
    steps: tuple[Step, ...] = ()
    refused: str = ""  #: why it is not carried out here
    by_hand: str = ""  #: the command that would do it, where there is one
    notes: tuple[str, ...] = ()  #: what of it is left out, and why
    asked: frozenset[tuple[str, str]] = frozenset()  #: the findings that asked for it: check and summary


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

    @property
    def exports(self) -> list[Export]:
        """Return every export of it."""
        return [export for change in self.changes for export in _exports_of(change)]


class Wanted(Struct, frozen=True):
    """What the user asked for."""

    names: tuple[str, ...] = ()  #: checks or fixes; none: all
    unsafe: bool = False
    exports_only: bool = False  #: variables for a shell that is to be told them: no file is changed


def make_plan(report: Report, fixes: Mapping[str, Fix], wanted: Wanted, site: Site | None) -> Plan:
    """Return the plan for a report; touches nothing."""
    return _Planner(report, fixes, wanted, site).plan()


class _Wish(Struct, frozen=True):
    """One thing that would help a finding, the least change first."""

    check: str
    finding: Finding | None
    remedies: tuple[Remedy, ...]

    def asks_for(self, change: Change) -> Change:
        """Return a change as one that this asked for, too."""
        if self.finding is None or not self.check:
            return change
        return structs.replace(
            change,
            checks=tuple(dict.fromkeys((*change.checks, self.check))),
            asked=change.asked | {(self.check, self.finding.summary)},
        )


class _Planner:
    """Takes changes until no finding is left that any of them clears."""

    def __init__(self, report: Report, fixes: Mapping[str, Fix], wanted: Wanted, site: Site | None) -> None:
        self.report, self.fixes, self.wanted, self.site = report, fixes, wanted, site
        served = {each.fix for _, finding in report.findings() for each in _chains(finding)}
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
            report = self._take_all(self._predict())
        changes = tuple(self._grouped())
        left = report if self.site is not None else None
        held = tuple(self._held(report))
        cleared = tuple((_names(self.report) - _names(report)).elements()) if left is not None else ()
        return Plan(changes, held, sum(_names(self.report).values()), cleared, left)

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
        for wish in self._wishes(report):
            for remedy in wish.remedies:
                changes = [c for c in self._changes(remedy, report.facts) if c.safety is not Safety.MANUAL]
                known = self.taken | doable
                if not changes or any(_key(c) not in known and self._why_held(c) for c in changes):
                    continue
                for change in changes:
                    holder = self.taken if _key(change) in self.taken else doable
                    holder[_key(change)] = wish.asks_for(holder.get(_key(change), change))
                break
        if self.site is None:
            return doable
        first = min(map(_rank, doable.values()), default=0)
        batch: dict[object, Change] = {}
        for key, change in doable.items():
            if _rank(change) in (first, _APART) and not _collides(change, batch.values()):
                batch[key] = change
        return batch

    def _wishes(self, report: Report) -> Iterator[_Wish]:
        """Yield what each finding asks for, as far as it is wanted, then the fixes asked for without one."""
        names = self.wanted.names
        for check, finding in report.findings():
            for remedy in finding.remedies:
                chain = [remedy, *remedy.instead]
                if names and check not in names:
                    chain = [each for each in chain if each.fix in names]
                if chain:
                    yield _Wish(check, finding, tuple(structs.replace(r, instead=()) for r in chain))
        for name in self.alone:
            yield _Wish("", None, (Remedy(name),))

    def _changes(self, remedy: Remedy, facts: Facts) -> list[Change]:
        """Return what a remedy comes to here, with its steps; `refused` says why it cannot be done."""
        fix = self.fixes.get(remedy.fix)
        shown = (Show(remedy.summary),) if remedy.summary else ()
        if fix is None:
            why = f"no fix is called {remedy.fix}"
            return [Change(remedy.fix, Safety.MANUAL, shown, (), (), why)]
        try:
            actions = list(fix.plan(remedy, facts))
        except ValueError as error:
            return [Change(fix.name, Safety.MANUAL, shown, (), (), str(error))]
        except Exception as error:  # a plug-in's
            return [Change(fix.name, Safety.MANUAL, shown, (), (), f"the fix itself failed: {where(error)}")]
        return [self._change(fix, tuple(some), facts) for some in _by_kind(actions)]

    def _change(self, fix: Fix, actions: tuple[Action, ...], facts: Facts) -> Change:
        change = Change(fix.name, Safety.MANUAL if isinstance(actions[0], Show) else fix.safety, actions, ())
        if self.site is None or isinstance(actions[0], (Show, Export)):
            return change
        if _key(change) in self.rejected:
            return structs.replace(change, refused=self.rejected[_key(change)])
        return _with_steps(self.site, self._overlay(), change, facts)

    def _why_held(self, change: Change) -> str:
        """Return why a change is not carried out, or "" where it is."""
        if change.refused:
            return change.refused
        if _key(change) in self.rejected:
            return self.rejected[_key(change)]
        if change.safety is Safety.MANUAL:
            return "shown only"
        if change.safety is Safety.UNSAFE and not self.wanted.unsafe:
            return "needs --unsafe"
        if self.wanted.exports_only:
            return "" if _exports_of(change) else "not a variable"
        if self.site is not None and _exports_of(change):
            try:
                exported(self.site, [*self._exports(), *_exports_of(change)])
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
        if not self.taken:
            return site.host
        if self.staged is None:
            steps = [step for change in self._grouped() for step in change.steps]
            environ: Mapping[str, str] = site.host.environ
            if site.target.active or self.wanted.exports_only:
                from cudadoctor.exports import environ_after

                environ = environ_after(self._exports(), environ, site.prefix)
            self.staged = site.overlay(site.host, environ, steps)
        return self.staged

    def _exports(self) -> list[Export]:
        return [export for change in self.taken.values() for export in _exports_of(change)]

    def _grouped(self) -> Iterator[Change]:
        """Yield the changes as lines of a plan: all exports go into the same files, and so are one line."""
        exporting = [change for change in self.taken.values() if _exports_of(change)]
        installing = [change for change in self.taken.values() if isinstance(change.actions[0], Install)]
        for change in self.taken.values():
            if change not in exporting and change not in installing:
                yield change
        if exporting:
            yield self._exporting(exporting)
        if self.site is not None and not self.wanted.exports_only and (stale := self._stale(self.site)):
            yield stale
        yield from self._installs(installing)

    def _installs(self, changes: Sequence[Change]) -> Iterator[Change]:
        """Yield one install for each installer: solving once is faster, and the packages must agree."""
        tools = dict.fromkeys(_install_of(change).tool for change in changes)
        for tool in tools:
            same = [change for change in changes if _install_of(change).tool == tool]
            if len(same) == 1:
                yield same[0]
                continue
            from cudadoctor.installers.choice import joined

            packages = joined(name for change in same for name in _install_of(change).packages)
            both = _joined(same, (Install(tool, packages),))
            site = self.site
            yield both if site is None else _with_steps(site, site.host, both, self.report.facts)

    def _exporting(self, changes: Sequence[Change]) -> Change:
        from cudadoctor.exports import merged

        both = _joined(changes, merged((), [export for change in changes for export in _exports_of(change)]))
        if self.site is None or self.wanted.exports_only:
            return both
        steps, left_out = exported(self.site, _exports_of(both))
        return structs.replace(both, steps=steps, notes=left_out)

    def _stale(self, site: Site) -> Change | None:
        """Return the moving aside of operators that would go on with what the exports change."""
        from cudadoctor.simulate.ninja import stale_after

        caches = self.report.facts.caches
        names = {export.name for export in self._exports()}
        paths = stale_after(names, caches) if names and isinstance(caches, Caches) else ()
        moved = [a.path for c in self.taken.values() for a in c.actions if isinstance(a, MoveAside)]
        actions = tuple(
            MoveAside(path) for path in paths if not any(f"{path}/".startswith(f"{m}/") for m in moved)
        )
        if not actions:
            return None
        return _with_steps(site, site.host, Change("jit-caches", Safety.SAFE, actions, ()), self.report.facts)

    # --- what is left ---------------------------------------------------------------------------------------

    def _idle(self, report: Report) -> list[object]:
        """Return the changes that clear none of the findings that asked for them."""
        before, after = _names(self.report), _names(report)
        told, still = _findings(self.report), _findings(report)

        def helps(check: str, summary: str) -> bool:
            each = check, summary
            # One that asked only after other changes is not in the first report: its check tells.
            return after[check] < before[check] and (each not in told or still[each] < told[each])

        return [
            key
            for key, change in self.taken.items()
            if change.checks
            and all(before[check] for check in change.checks)
            and not any(helps(*each) for each in change.asked)
        ]

    def _held(self, report: Report) -> Iterator[Change]:
        """Yield what would help the findings that are left, and is not done."""
        found: dict[object, Change] = {}
        for wish in self._wishes(report):
            for change in (c for remedy in wish.remedies for c in self._changes(remedy, report.facts)):
                key = _key(change)
                if key in self.taken:
                    break
                if key in found:
                    found[key] = wish.asks_for(found[key])
                elif change.actions:
                    found[key] = wish.asks_for(structs.replace(change, refused=self._why_held(change)))
                elif change.refused and not wish.check:
                    found[key] = structs.replace(change, refused="no finding here asks for it")
        installs = [c for c in found.values() if c.actions and isinstance(c.actions[0], Install)]
        yield from (change for change in found.values() if change not in installs)
        for change in self._installs(installs):
            yield structs.replace(change, refused=change.refused or "needs --unsafe")


def _with_steps(site: Site, host: Host, change: Change, facts: Facts) -> Change:
    """Return a change with the steps it takes on this machine, or with why it cannot be done."""
    try:
        return structs.replace(change, steps=tuple(lowered(site, host, change.actions, facts)))
    except ByHand as conflict:
        return structs.replace(change, refused=str(conflict), by_hand=conflict.command)
    except Conflict as conflict:
        return structs.replace(change, refused=str(conflict))


def _joined(changes: Sequence[Change], actions: tuple[Action, ...]) -> Change:
    """Return changes as one that does these actions."""
    return Change(
        ", ".join(dict.fromkeys(change.fix for change in changes)),
        Safety.UNSAFE if any(change.safety is Safety.UNSAFE for change in changes) else changes[0].safety,
        actions,
        tuple(dict.fromkeys(check for change in changes for check in change.checks)),
        asked=frozenset().union(*(change.asked for change in changes)),
    )


def _by_kind(actions: Sequence[Action]) -> list[list[Action]]:
    """Return actions in groups that are one line of a plan each."""
    found: dict[object, list[Action]] = {}
    for action in actions:
        kind = type(action) if isinstance(action, (Show, Export, Install)) else None
        found.setdefault(kind, []).append(action)
    return list(found.values())


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


def _install_of(change: Change) -> Install:
    action = change.actions[0]
    assert isinstance(action, Install)
    return action


def _chains(finding: Finding) -> Iterator[Remedy]:
    for remedy in finding.remedies:
        yield remedy
        yield from remedy.instead


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


def _names(report: Report) -> Counter[str]:
    return Counter(name for name, _ in report.findings())


def _findings(report: Report) -> Counter[tuple[str, str]]:
    return Counter((name, finding.summary) for name, finding in report.findings())
