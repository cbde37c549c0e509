"""`cudadoctor fix`: plan, predict, and with --apply carry out, check again and tell how to take it back."""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence

import msgspec
from msgspec import Struct, structs

from cudadoctor import __version__
from cudadoctor.actions import Install, Safety, Step
from cudadoctor.commands.book import Bench, command, installer_of, open_bench
from cudadoctor.commands.check import choose, failures, suppressed
from cudadoctor.commands.look import Waiting, end_on_signals, facts_for
from cudadoctor.config import Config, load_config
from cudadoctor.declare import Check
from cudadoctor.engine import collect, everything, examine
from cudadoctor.facts import Facts, Target
from cudadoctor.findings import Severity
from cudadoctor.host import Host, RealHost
from cudadoctor.journal import Begin, Intent, Run
from cudadoctor.mistakes import UserMistake, nearest
from cudadoctor.overlay import OverlayHost, Remembering
from cudadoctor.plan import Plan, Site, Wanted, make_plan
from cudadoctor.probes.target import Request
from cudadoctor.registry import Fixes, Registry, load, load_fixes
from cudadoctor.repair import Repair, described, titles
from cudadoctor.report import Report, Tool
from cudadoctor.show import visible
from cudadoctor.transaction import Changed, Failed, carry_out, complete, new_run


def run(options: argparse.Namespace) -> int:
    """Plan, and as far as asked for carry out; return the exit code of what is left."""
    _must_make_sense(options)
    doctor = Doctor.of(options)
    if options.facts:
        report = doctor.judge(facts_for(options, everything()))
        prefix = report.target.prefix if isinstance(report.target, Target) else ""
        return _show_plan(doctor, report, make_plan(report, doctor.fixes.fixes, doctor.wanted, None), prefix)
    real = RealHost()
    host = Remembering(real)
    report = doctor.judge(doctor.first_look(host))
    if not isinstance(report.target, Target):
        raise UserMistake(f"the target could not be looked at: {report.target.reason}")
    bench = open_bench(report.target, real)
    if options.apply or options.resume:
        end_on_signals()
    left_open = [one for one in bench.runs() if one.is_open]
    if options.resume:
        return _resume(doctor, bench, left_open)
    if left_open and options.apply:
        raise UserMistake(_interrupted(left_open[0], doctor, bench))
    plan = make_plan(report, doctor.fixes.fixes, doctor.wanted, doctor.site(host, bench, report))
    if options.apply and plan.steps:
        return _apply(doctor, bench, report, plan)
    for one in left_open:
        sys.stderr.write(f"cudadoctor: {_interrupted(one, doctor, bench)}\n")
    return _show_plan(doctor, report, plan, bench.prefix)


def _must_make_sense(options: argparse.Namespace) -> None:
    if options.facts and (options.apply or options.resume):
        raise UserMistake("--apply changes this machine, and a saved report (--facts) is of another")
    if options.format == "script" and (options.apply or options.resume):
        raise UserMistake("--format script prints what --apply would do: give one of them")
    if options.resume and (options.names or options.apply):
        raise UserMistake("--resume completes what a journal says: it takes no names and no --apply")


def _interrupted(left: Run, doctor: Doctor, bench: Bench) -> str:
    """Say which run was interrupted, and what can be done about it."""
    undo = doctor.command(bench.host, "undo", left.name)
    if left.status.startswith("undo"):
        return f"undoing run {left.name} was interrupted: complete it with: {undo}"
    resume = doctor.command(bench.host, "fix", "--resume")
    return f"run {left.name} was interrupted: complete it with: {resume}; or take it back: {undo}"


class Doctor(Struct, frozen=True):
    """What looks and judges, the same way before, for the prediction and after."""

    options: argparse.Namespace
    registry: Registry
    fixes: Fixes
    config: Config
    checks: tuple[Check, ...]
    started: float

    @classmethod
    def of(cls, options: argparse.Namespace) -> Doctor:
        """Load everything that the options name."""
        started = time.perf_counter()
        registry, fixes = load(), load_fixes()
        known = [*registry.checks, *fixes.fixes, *(f.check for f in (*registry.failures, *fixes.failures))]
        for name in options.names:
            if name not in known:
                raise UserMistake(
                    f"no check or fix is called {name!r}{nearest(name, known)} (see: cudadoctor list)"
                )
        config = load_config(options.config or "", options.no_config, registry)
        checks = tuple(choose(registry, (), [*options.ignore, *config.ignore]))
        return cls(options, registry, fixes, config, checks, started)

    @property
    def wanted(self) -> Wanted:
        """Return what the user asked for."""
        return Wanted(tuple(dict.fromkeys(self.options.names)), self.options.unsafe)

    @property
    def request(self) -> Request:
        """Return which target, and that only files are read."""
        options = self.options
        return Request(options.prefix or "", options.python or "", options.name or "", False)

    def first_look(self, host: Host) -> Facts:
        """Return the facts as `check` has them."""
        return facts_for(self.options, everything(self.options.deep), host)

    def judge(self, facts: Facts) -> Report:
        """Return the report on facts."""
        outcomes = [*examine(facts, self.checks, self.registry.own())]
        outcomes += failures(self.registry, (), [*self.options.ignore, *self.config.ignore])
        return Report(
            tool=Tool("cudadoctor", __version__),
            created=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            target=facts.target,
            facts=facts,
            outcomes=tuple(suppressed(outcome, self.config) for outcome in outcomes),
            elapsed_ms=round((time.perf_counter() - self.started) * 1000, 1),
            replayed=bool(self.options.facts),
        )

    def site(self, host: Host, bench: Bench, report: Report) -> Site:
        """Return the machine as the planner needs it."""

        def look(other: Host) -> Facts:
            with Waiting() as waiting:
                facts = collect(other, everything(), self.request, waiting.tell)
            # What a compiler did is not predicted: it stands as it was seen.
            return structs.replace(facts, deep=report.facts.deep)

        return Site(
            host=host,
            ground=bench.ground,
            target=bench.target,
            prefix=bench.prefix,
            look=look,
            judge=self.judge,
            overlay=_overlay,
            prepare=lambda action, facts: _prepared(action, facts, bench.host),
            expect=_expected,
        )

    def command(self, host: RealHost, *argv: str) -> str:
        """Return a command on the same target, to copy."""
        return command(self.options, host.home(), *argv)

    def exit_code(self, report: Report) -> int:
        """Return what `check` would return."""
        name = self.options.fail_on or self.config.fail_on
        return report.exit_code(None if name == "never" else Severity(name))


def _overlay(host: Host, environ: Mapping[str, str], steps: Sequence[Step]) -> Host:
    overlay = OverlayHost(host, environ)
    for step in steps:
        overlay.stage(step)
    return overlay


def _prepared(action: Install, facts: Facts, host: Host) -> Install:
    from cudadoctor.commands.install import prepared

    return prepared(action, facts, host)


def _expected(action: Install, facts: Facts) -> Facts:
    from cudadoctor.installers import predicted

    return predicted(action, facts)


def _show_plan(doctor: Doctor, report: Report, plan: Plan, prefix: str) -> int:
    repair = structs.replace(
        described(plan, report, report.tool, prefix), apply_with=_apply_with(doctor, plan)
    )
    if doctor.options.format == "script":
        _script(plan, report, prefix)
    else:
        _show(doctor, repair, report)
    return doctor.exit_code(report)


def _script(plan: Plan, report: Report, prefix: str) -> None:
    from cudadoctor.render import script

    if not isinstance(report.target, Target) or not prefix:
        raise UserMistake("--format script needs the machine itself: a saved report shows no steps")
    what = f"{report.target.prefix} ({report.target.kind})"
    try:
        text = script.render(plan.changes, plan.held, prefix=prefix, what=what, created=report.created)
    except ValueError as error:
        raise UserMistake(f"no script can be written for this: {error}") from None
    sys.stdout.buffer.write(text.encode("utf-8", "surrogateescape"))


def _apply_with(doctor: Doctor, plan: Plan) -> str:
    if doctor.options.facts or not plan.changes:
        return ""
    unsafe = ["--unsafe"] if any(change.safety is Safety.UNSAFE for change in plan.changes) else []
    ignored = [word for name in doctor.options.ignore for word in ("--ignore", name)]
    return doctor.command(RealHost(), "fix", "--apply", *unsafe, *ignored, *doctor.wanted.names)


def _show(doctor: Doctor, repair: Repair, report: Report) -> None:
    if doctor.options.format == "json":
        from cudadoctor.redact import for_facts

        sys.stdout.buffer.write(msgspec.json.encode(for_facts(report.facts).value(repair)) + b"\n")
        return
    from cudadoctor.render import repair as text

    text.render(repair, report, stream=sys.stdout)


def _apply(doctor: Doctor, bench: Bench, report: Report, plan: Plan) -> int:
    repair = described(plan, report, report.tool, bench.prefix)
    words = dict(zip(map(id, plan.changes), titles(repair), strict=True))
    intents = [
        Intent(number, step, words[id(change)], change.checks)
        for number, (change, step) in enumerate(plan.steps, 1)
    ]
    book = bench.book()
    try:
        begin = new_run(book, bench.prefix, bench.ground.roots, __version__)
        carry_out(book, bench.ground, begin, intents, installer_of(bench), lambda _: None)
    except Failed as failed:
        after = "nothing was changed" if failed.restored else _half_done(doctor, bench, begin)
        raise UserMistake(f"{failed}: {after}") from None
    finally:
        book.close()
    return _check_again(doctor, bench, report, plan, _with_commands(doctor, bench, repair, begin.run))


def _with_commands(doctor: Doctor, bench: Bench, repair: Repair, run: str) -> Repair:
    undo, env = doctor.command(bench.host, "undo", run), doctor.command(bench.host, "env")
    return structs.replace(repair, run=run, undo_with=undo, env_with=env)


def _half_done(doctor: Doctor, bench: Bench, begin: Begin) -> str:
    undo = doctor.command(bench.host, "undo", begin.run)
    return f"and what was done could not all be taken back: {undo}"


def _check_again(doctor: Doctor, bench: Bench, report: Report, plan: Plan, repair: Repair) -> int:
    """Look at the machine as it now is: the verdict is what is found, not what was hoped for."""
    host = RealHost(_after_activation(bench, plan))
    facts = facts_for(doctor.options, everything(doctor.options.deep), host)
    now = doctor.judge(facts)
    before, after = _counted(report), _counted(now)
    surprises = () if doctor.options.deep or _installs(plan) else _surprises(plan, now)
    repair = structs.replace(
        repair,
        cleared=tuple((before - after).elements()),
        left=sum(after.values()),
        surprises=surprises,
    )
    _show(doctor, repair, now)
    return doctor.exit_code(now)


def _after_activation(bench: Bench, plan: Plan) -> Mapping[str, str]:
    """Return the variables of a shell that is activated now: an old one does not know the new exports."""
    from cudadoctor.actions import Export
    from cudadoctor.exports import outcome

    environ = dict(bench.host.environ)
    exports = [a for change in plan.changes for a in change.actions if isinstance(a, Export)]
    if bench.target.active and exports:
        for name, value in outcome(exports, environ, bench.prefix).items():
            environ.pop(name, None)
            environ |= {} if value is None else {name: value}
    return environ


def _counted(report: Report) -> Counter[str]:
    return Counter(name for name, _ in report.findings())


def _installs(plan: Plan) -> bool:
    return any(isinstance(step, Install) for _, step in plan.steps)


def _surprises(plan: Plan, now: Report) -> tuple[str, ...]:
    """Return in what the re-check differs from the prediction: there should be nothing."""
    assert plan.predicted is not None
    hoped = Counter((name, finding.summary) for name, finding in plan.predicted.findings())
    found = Counter((name, finding.summary) for name, finding in now.findings())
    more = [f"not predicted: {name}: {summary}" for name, summary in (found - hoped).elements()]
    return (
        *more,
        *(f"predicted, but gone: {name}: {summary}" for name, summary in (hoped - found).elements()),
    )


def _resume(doctor: Doctor, bench: Bench, left_open: Sequence[Run]) -> int:
    """Complete the run that was interrupted, then say what `check` finds."""
    if not left_open:
        raise UserMistake("no run was interrupted: there is nothing to complete")
    run = left_open[0]
    if run.status.startswith("undo"):
        raise UserMistake(_interrupted(run, doctor, bench))
    bench.must_be_its_own(run)
    book = bench.book(run)
    try:
        complete(book, bench.ground, run, installer_of(bench), lambda _: None)
    except Changed as changed:
        raise UserMistake(f"run {run.name} cannot be completed: {changed}") from None
    except Failed as failed:
        raise UserMistake(f"run {run.name} could not be completed: {failed}") from None
    finally:
        book.close()
    print(visible(f"completed run {run.name}; undo with: {doctor.command(bench.host, 'undo', run.name)}"))
    return doctor.exit_code(doctor.judge(doctor.first_look(RealHost())))
