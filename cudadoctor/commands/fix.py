"""`cudadoctor fix`: plan, predict, and with --apply carry out, check again and tell how to take it back."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence

import msgspec
from msgspec import structs

from cudadoctor import __version__
from cudadoctor.actions import Install, Safety
from cudadoctor.commands.book import Bench, installer_of
from cudadoctor.commands.doctor import Doctor, Patient
from cudadoctor.commands.look import end_on_signals, facts_for, machine_names
from cudadoctor.engine import everything
from cudadoctor.facts import Target
from cudadoctor.host import RealHost
from cudadoctor.journal import Begin, Intent, Run
from cudadoctor.mistakes import UserMistake
from cudadoctor.plan import Plan
from cudadoctor.remembering import Remembering
from cudadoctor.repair import Repair, described, titles
from cudadoctor.report import Report
from cudadoctor.show import visible
from cudadoctor.transaction import Changed, Failed, carry_out, complete, new_run


def run(options: argparse.Namespace) -> int:
    """Plan, and as far as asked for carry out; return the exit code of what is left."""
    _must_make_sense(options)
    looked_s = time.time()
    doctor = Doctor.of(options)
    if options.facts:
        report = doctor.judge(facts_for(options, everything()))
        prefix = report.target.prefix if isinstance(report.target, Target) else ""
        return _show_plan(doctor, report, doctor.planned(report, None), prefix)
    patient = doctor.patient()
    bench, report = patient.bench, patient.report
    if options.apply or options.resume:
        end_on_signals()
        bench.must_not_be_busy()
    left_open = [one for one in bench.runs() if one.is_open]
    if options.resume:
        return _resume(doctor, bench, left_open)
    if options.apply:
        _must_be_closed(doctor, bench)
    plan = doctor.planned(report, patient)
    if options.apply and plan.steps:
        return _apply(doctor, patient, plan, looked_s)
    for one in left_open:
        busy = bench.is_at_work(one)
        said = f"run {one.name} is at work now" if busy else _interrupted(one, doctor, bench)
        sys.stderr.write(f"cudadoctor: {said}\n")
    return _show_plan(doctor, report, plan, bench.prefix)


def _must_make_sense(options: argparse.Namespace) -> None:
    if options.facts and (options.apply or options.resume):
        raise UserMistake("--apply changes this machine, and a saved report (--facts) is of another")
    if options.format == "script" and (options.apply or options.resume):
        raise UserMistake("--format script prints what --apply would do: give one of them")
    if options.resume and (options.names or options.apply):
        raise UserMistake("--resume completes what a journal says: it takes no names and no --apply")


def _must_be_closed(doctor: Doctor, bench: Bench) -> None:
    """Refuse to begin anything where a run was left half done."""
    if left_open := [one for one in bench.runs() if one.is_open]:
        raise UserMistake(_interrupted(left_open[0], doctor, bench))


def _interrupted(left: Run, doctor: Doctor, bench: Bench) -> str:
    """Say which run was interrupted, and what can be done about it."""
    undo = doctor.command(bench.host, "undo", left.name, *(["--force"] if left.forced else []))
    if left.status.startswith("undo"):
        return f"undoing run {left.name} was interrupted: complete it with: {undo}"
    resume = doctor.command(bench.host, "fix", "--resume")
    return f"run {left.name} was interrupted: complete it with: {resume}; or take it back: {undo}"


def _show_plan(doctor: Doctor, report: Report, plan: Plan, prefix: str) -> int:
    repair = structs.replace(
        described(plan, report, report.tool, prefix),
        asked=doctor.wanted.names,
        apply_with=_apply_with(doctor, plan),
    )
    if doctor.options.format == "script":
        _script(plan, report, prefix)
    else:
        _show(doctor, repair, report)
    return doctor.exit_code(report)


def _script(plan: Plan, report: Report, prefix: str) -> None:
    from cudadoctor.render import script

    if report.replayed or not isinstance(report.target, Target):
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
    options = doctor.options
    same = ["--deep"] if options.deep else []
    same += [word for name in options.ignore for word in ("--ignore", name)]
    same += ["--config", options.config] if options.config else []
    same += ["--no-config"] if options.no_config else []
    return doctor.command(RealHost(), "fix", "--apply", *unsafe, *same, *doctor.wanted.names)


def _show(doctor: Doctor, repair: Repair, report: Report) -> None:
    if doctor.options.format == "json":
        from cudadoctor.redact import for_facts

        sys.stdout.buffer.write(
            msgspec.json.encode(for_facts(report.facts, hosts=machine_names(report.replayed)).value(repair))
            + b"\n"
        )
        return
    from cudadoctor.render import repair as text

    text.render(repair, report, stream=sys.stdout)


def _apply(doctor: Doctor, patient: Patient, plan: Plan, looked_s: float) -> int:
    """Carry out a plan that rests on a look at that time."""
    bench, report = patient.bench, patient.report
    book = bench.book()
    try:
        _must_be_closed(doctor, bench)
        if any(os.stat(run.path).st_mtime >= looked_s for run in bench.runs()):
            # Another run came and went before the lock was ours: what was planned may be done already.
            report = doctor.patient().report
            plan = doctor.planned(
                report, structs.replace(patient, host=Remembering(bench.host), report=report)
            )
        repair = described(plan, report, report.tool, bench.prefix)
        words = dict(zip(map(id, plan.changes), titles(repair), strict=True))
        intents = [
            Intent(number, step, words[id(change)], change.checks)
            for number, (change, step) in enumerate(plan.steps, 1)
        ]
        if not intents:
            return _show_plan(doctor, report, plan, bench.prefix)
        begin = new_run(book, bench.prefix, __version__)
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
    surprises = () if doctor.options.deep or _has_installs(plan) else _surprises(plan, now)
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
    from cudadoctor.exports import environ_after

    environ = bench.host.environ
    return environ_after(plan.exports, environ, bench.prefix) if bench.target.active else environ


def _counted(report: Report) -> Counter[str]:
    return Counter(name for name, _ in report.findings())


def _has_installs(plan: Plan) -> bool:
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
    now, undo = doctor.judge(doctor.first_look(RealHost())), doctor.command(bench.host, "undo", run.name)
    if doctor.options.format == "json":
        left = sum(_counted(now).values())
        _show(
            doctor,
            Repair(now.tool, now.created, now.target, left, (), run=run.name, undo_with=undo, left=left),
            now,
        )
    else:
        print(visible(f"completed run {run.name}; undo with: {undo}"))
    return doctor.exit_code(now)
