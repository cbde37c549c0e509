"""`cudadoctor undo`: take a run back, the last step first, byte for byte."""

from __future__ import annotations

import argparse
import os
import sys

from cudadoctor.commands.book import Bench, installer_of, open_bench
from cudadoctor.commands.look import end_on_signals, facts_for
from cudadoctor.facts import Target
from cudadoctor.ground import Conflict, step_path
from cudadoctor.host import RealHost
from cudadoctor.journal import Intent, Run
from cudadoctor.mistakes import UserMistake, nearest
from cudadoctor.places import in_prefix
from cudadoctor.redact import in_shell
from cudadoctor.show import visible
from cudadoctor.transaction import Aside, Changed, Failed, Taken, asides, purge, says, take_back
from cudadoctor.words import taken_back


def run(options: argparse.Namespace) -> int:
    """List, purge or take back; return 0, or raise what stood in the way."""
    target = facts_for(options, {"target"}).target
    if not isinstance(target, Target):
        raise UserMistake(f"the target could not be looked at: {target.reason}")
    bench = open_bench(target, RealHost())
    if options.list:
        return _list(bench.runs(), bench)
    bench.must_not_be_busy()
    runs = bench.runs()
    if options.purge:
        return _purge(options, runs, bench)
    chosen = _chosen(options.run, runs, bench)
    end_on_signals()
    return _take_back(chosen, runs, bench, options.force)


def _list(runs: list[Run], bench: Bench) -> int:
    from cudadoctor.render.repair import render_runs

    rows = []
    for one in runs:
        titles = "; ".join(dict.fromkeys(intent.title for intent in one.intents))
        why = f" ({one.why})" if one.why else ""
        status = "at work" if bench.is_at_work(one) else one.status
        rows.append((one.name, one.begin.created, status, f"{titles}{why}"))
    if rows:
        render_runs(rows, stream=sys.stdout, home=bench.host.home())
    else:
        print(visible(f"no run has changed {_tilde(bench.target.prefix, bench)}"))
    return 0


def _chosen(name: str | None, runs: list[Run], bench: Bench) -> Run:
    """Return the run that is named, or the last one that can be taken back; what is left open comes first."""
    if name:
        found = _named(name, runs, bench)
        if found.status in ("undone", "rolled back"):
            raise UserMistake(f"run {name} is {found.status} already")
        return found
    left = [run for run in runs if run.is_open] or [run for run in runs if run.status == "applied"]
    if not left:
        raise UserMistake(f"there is nothing to undo in {_tilde(bench.target.prefix, bench)}")
    return left[-1]


def _named(name: str, runs: list[Run], bench: Bench) -> Run:
    found = next((run for run in runs if run.name == name), None)
    if found is None:
        where, hint = _tilde(bench.target.prefix, bench), nearest(name, [run.name for run in runs])
        raise UserMistake(f"{where} has no run {name!r}{hint} (see: cudadoctor undo --list)")
    return found


def _take_back(chosen: Run, runs: list[Run], bench: Bench, force: bool) -> int:
    bench.must_be_its_own(chosen)
    book = bench.book(chosen)
    done: list[Intent] = []
    try:
        taken = take_back(book, bench.ground, chosen, installer_of(bench), force=force, tell=done.append)
    except Changed as changed:
        raise UserMistake(_refusal(chosen, runs, changed)) from None
    except Failed as failed:
        raise UserMistake(f"run {chosen.name} could not be taken back: {failed}") from None
    finally:
        book.close()
    _say(chosen, done, taken, bench)
    return 0


def _refusal(chosen: Run, runs: list[Run], changed: Changed) -> str:
    """Say what was changed since; where a later run did it, that one comes first."""
    later = [run.name for run in runs if run.status == "applied" and run.begin.created > chosen.begin.created]
    hint = f"undo {later[-1]} first, or use" if later else "use"
    forced = ["what is there now is kept beside"] if changed.files else []
    if changed.packages:
        forced.append("packages go back to what they were before the run, what came since is uninstalled")
    return f"run {chosen.name} is not undone: {changed} ({hint} --force: {'; '.join(forced)})"


def _say(chosen: Run, done: list[Intent], taken: Taken, bench: Bench) -> None:
    prefix = chosen.begin.prefix
    for intent in done:
        if step_path(intent.step) in (*taken.stayed, *taken.lost):
            continue
        print(visible(f"  {taken_back(intent.step, prefix)}"))
    for path in taken.stayed:
        if _holds_only_journals(path, bench):
            continue
        print(visible(f"  left: {_tilde(path, bench)}: something else is in it"))
    for path in taken.kept:
        print(visible(f"  kept what was in the way: {_tilde(path, bench)}"))
    for path in taken.lost:
        print(visible(f"  not brought back: {_tilde(path, bench)}: it was removed since"))
    purged = len(chosen.purged())
    things = f"{purged} {'thing' if purged == 1 else 'things'}"
    gone = f"; what it moved aside was purged and stays gone: {things}" if purged else ""
    print(visible(f"undone: run {chosen.name} in {_tilde(bench.target.prefix, bench)}{gone}"))


def _holds_only_journals(path: str, bench: Bench) -> bool:
    """Return whether a folder stayed for the journals alone: that is no news."""
    own = in_prefix(bench.prefix)
    return path == os.path.dirname(own) and os.listdir(path) == [os.path.basename(own)]


def _purge(options: argparse.Namespace, runs: list[Run], bench: Bench) -> int:
    """Remove what runs moved aside or kept: of the run that is named, else of all of them."""
    chosen = [_named(options.run, runs, bench)] if options.run else runs
    removed: list[Aside] = []
    problems: list[str] = []
    for one in chosen:
        if not any(os.path.lexists(aside.place) for aside in asides(one)):
            continue
        try:
            _purge_one(one, bench, removed)
        except (UserMistake, Failed, Conflict, OSError) as problem:
            problems.append(says(problem))
    for aside in removed:
        print(visible(f"  removed what was moved aside: {_tilde(aside.path, bench)}"))
    if problems:
        raise UserMistake("; ".join(problems))
    if not removed:
        print("nothing that was moved aside is left")
    return 0


def _purge_one(run: Run, bench: Bench, removed: list[Aside]) -> None:
    bench.must_be_its_own(run)
    book = bench.book(run)
    try:
        purge(book, bench.ground, run, removed.append)
    finally:
        book.close()


def _tilde(path: str, bench: Bench) -> str:
    home = bench.host.home().rstrip("/")
    return f"~{path[len(home) :]}" if home and path.startswith(f"{home}/") else in_shell(path, "")
