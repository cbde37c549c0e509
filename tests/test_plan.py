"""The planner alone: findings and fixes made up, the machine a real folder under the real overlay."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from cudadoctor.actions import Action, Export, Install, MakeLink, MoveAside, Safety, Show
from cudadoctor.declare import Fix
from cudadoctor.facts import Caches, ConfiguredOp, Facts, Target
from cudadoctor.findings import Finding, Remedy, Severity
from cudadoctor.ground import Conflict, Ground
from cudadoctor.host import Host, RealHost
from cudadoctor.lowering import Site
from cudadoctor.outcomes import Failed
from cudadoctor.overlay import OverlayHost
from cudadoctor.plan import Plan, Wanted, make_plan
from cudadoctor.report import Report, Tool

Judge = Callable[[Host], Iterable[tuple[str, Finding]]]


def finding(summary: str, *remedies: Remedy) -> Finding:
    return Finding(summary, Severity.ERROR, (), remedies)


def making(path: str, *instead: Remedy) -> Remedy:
    return Remedy("links", {"path": path}, "", instead)


def _packages(remedy: Remedy, facts: Facts) -> list[Action]:
    return [Install("pip", tuple(remedy.values))]


def _broken(remedy: Remedy, facts: Facts) -> list[Action]:
    raise KeyError("toolkit")


ROWS: list[tuple[str, Safety, Callable[[Remedy, Facts], Iterable[Action]]]] = [
    ("links", Safety.SAFE, lambda r, f: [MakeLink(r.values["path"], "there")]),
    ("jobs", Safety.SAFE, lambda r, f: [Export("MAX_JOBS", "2")]),
    ("home", Safety.SAFE, lambda r, f: [Export("CUDA_HOME", "/opt/cuda")]),
    (
        "mixed",
        Safety.SAFE,
        lambda r, f: [Show("by hand"), Export("A", "1"), MakeLink(r.values["path"], "b")],
    ),
    ("caches", Safety.SAFE, lambda r, f: [MoveAside(r.values["path"])]),
    ("packages", Safety.UNSAFE, _packages),
    ("broken", Safety.SAFE, _broken),
]
FIXES = {name: Fix(name, safety, plan) for name, safety, plan in ROWS}


class Machine:
    """An environment whose findings depend on what is in its folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.caches = Caches()
        self.refused = ""

    def has(self, host: Host, name: str) -> bool:
        return bool(host.kind(f"{self.root}/{name}", follow=False))

    def plan(self, judge: Judge, *names: str, unsafe: bool = False) -> Plan:
        target = Target(str(self.root), "conda", "", "", "", (), "", "", active=True)
        seen: dict[str, Host] = {}

        def look(host: Host) -> Facts:
            seen["host"] = host
            return Facts(target=target, caches=self.caches)

        def judged(facts: Facts) -> Report:
            found: dict[str, list[Finding]] = {}
            for check, each in judge(seen["host"]):
                found.setdefault(check, []).append(each)
            outcomes = tuple(Failed(check, findings=tuple(each)) for check, each in found.items())
            return Report(Tool("cudadoctor", "0"), "", target, facts, outcomes)

        def prepare(action: Install, facts: Facts) -> Install:
            if self.refused:
                raise Conflict(self.refused)
            return action

        host, ground = RealHost({}), Ground([str(self.root)])
        site = Site(
            host,
            ground,
            target,
            str(self.root),
            ground.roots,
            look,
            judged,
            _overlay,
            prepare,
            lambda _, f: f,
        )
        return make_plan(judged(look(host)), FIXES, Wanted(names, unsafe), site)


def _overlay(host: Host, environ: object, steps: Iterable[object]) -> Host:
    overlay = OverlayHost(host, environ)  # type: ignore[arg-type]
    for step in steps:
        overlay.stage(step)  # type: ignore[arg-type]
    return overlay


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    (tmp_path / "env").mkdir()
    return Machine(tmp_path / "env")


def actions(plan: Plan) -> list[Action]:
    return [action for change in plan.changes for action in change.actions]


def test_what_does_not_help_makes_way_for_the_next_best(machine: Machine) -> None:
    bad, good = f"{machine.root}/bad", f"{machine.root}/good"
    plan = machine.plan(
        lambda host: [] if machine.has(host, "good") else [("a", finding("x", making(bad, making(good))))]
    )
    assert actions(plan) == [MakeLink(good, "there")] and plan.cleared == ("a",)


def test_what_does_not_help_is_not_kept_for_what_another_change_clears(machine: Machine) -> None:
    good, useless = making(f"{machine.root}/good"), making(f"{machine.root}/useless")

    def judge(host: Host) -> Iterable[tuple[str, Finding]]:
        if not machine.has(host, "good"):
            yield "a", finding("one", good)
        yield "a", finding("other", useless)

    plan = machine.plan(judge)
    assert actions(plan) == [MakeLink(f"{machine.root}/good", "there")]
    (held,) = plan.held
    assert held.refused == "would not clear it" and held.actions == (
        MakeLink(f"{machine.root}/useless", "there"),
    )


def test_actions_of_several_kinds_become_lines_of_their_own(machine: Machine) -> None:
    link = f"{machine.root}/m"
    plan = machine.plan(
        lambda host: [] if machine.has(host, "m") else [("a", finding("x", Remedy("mixed", {"path": link})))]
    )
    assert [change.actions for change in plan.changes] == [(MakeLink(link, "b"),), (Export("A", "1"),)]
    assert all(change.steps for change in plan.changes) and plan.cleared == ("a",)


def test_a_fix_that_is_named_is_the_only_one(machine: Machine) -> None:
    either = making(f"{machine.root}/l", Remedy("jobs"))

    def judge(host: Host) -> Iterable[tuple[str, Finding]]:
        if not machine.has(host, "l") and not host.environ.get("MAX_JOBS"):
            yield "a", finding("x", either)

    assert actions(machine.plan(judge)) == [MakeLink(f"{machine.root}/l", "there")]
    assert actions(machine.plan(judge, "jobs")) == [Export("MAX_JOBS", "2")]
    assert actions(machine.plan(judge, "a")) == [MakeLink(f"{machine.root}/l", "there")]


def test_a_fix_that_crashes_is_told_and_the_rest_is_done(machine: Machine) -> None:
    good = f"{machine.root}/good"

    def judge(host: Host) -> Iterable[tuple[str, Finding]]:
        yield "a", finding("x", Remedy("broken", {}, "do it yourself"))
        if not machine.has(host, "good"):
            yield "b", finding("y", making(good))

    plan = machine.plan(judge)
    assert actions(plan) == [MakeLink(good, "there")]
    (held,) = plan.held
    assert "the fix itself failed: KeyError" in held.refused and held.actions == (Show("do it yourself"),)


def test_two_installs_are_one_and_nothing_runs_in_a_circle(machine: Machine) -> None:
    def judge(host: Host) -> Iterable[tuple[str, Finding]]:
        yield "a", finding("x", Remedy("packages", {"nvcc": "", "cudart": ""}))
        yield "b", finding("y", Remedy("packages", {"cudart==12.8": ""}))
        yield "c", finding("z", Remedy("jobs"))

    (line,) = (change for change in machine.plan(judge).held if isinstance(change.actions[0], Install))
    assert line.actions == (Install("pip", ("nvcc", "cudart==12.8")),) and line.checks == ("a", "b")
    assert line.refused == "needs --unsafe"
    machine.refused = "pip is not installed"
    plan = machine.plan(judge, unsafe=True)
    assert [change.refused for change in plan.held if change.fix == "packages"] == ["pip is not installed"]


def test_an_operator_with_an_old_toolkit_is_moved_with_the_export_but_not_twice(
    machine: Machine, tmp_path: Path
) -> None:
    folder = machine.root / "cached_ops/silu"
    folder.mkdir(parents=True)
    machine.caches = Caches(ops=(ConfiguredOp(str(folder), "silu", "/old", "c++", "$cuda_home/bin/nvcc"),))
    cache = Remedy("caches", {"path": str(folder.parent)})

    def judge(host: Host) -> Iterable[tuple[str, Finding]]:
        if not host.environ.get("CUDA_HOME"):
            yield "a", finding("x", Remedy("home"))
        if machine.has(host, "cached_ops"):
            yield "b", finding("y", cache)

    home = Export("CUDA_HOME", "/opt/cuda")
    assert actions(machine.plan(judge, "a")) == [home, MoveAside(str(folder))]
    assert actions(machine.plan(judge)) == [MoveAside(str(folder.parent)), home]
