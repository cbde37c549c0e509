"""`cudadoctor undo`: take a run back, the last step first, byte for byte."""

from __future__ import annotations

import argparse
import os
import sys

from cudadoctor.commands.book import Bench, installer_of, open_bench
from cudadoctor.commands.look import end_on_signals, facts_for
from cudadoctor.facts import Target
from cudadoctor.host import RealHost
from cudadoctor.journal import IN_PREFIX, Intent, Run
from cudadoctor.mistakes import UserMistake, nearest
from cudadoctor.redact import in_shell
from cudadoctor.repair import undone_in_words
from cudadoctor.show import visible
from cudadoctor.transaction import Changed, Failed, Taken, purge, take_back


def run(options: argparse.Namespace) -> int:
    """List, purge or take back; return 0, or raise what stood in the way."""
    target = facts_for(options, {"target"}).target
    if not isinstance(target, Target):
        raise UserMistake(f"the target could not be looked at: {target.reason}")
    bench = open_bench(target, RealHost())
    runs = bench.runs()
    if options.list:
        return _list(runs, bench)
    if options.purge:
        return _purge(options, runs, bench)
    chosen = _chosen(options.run, runs, bench)
    end_on_signals()
    return _take_back(chosen, runs, bench, options.force)


def _list(runs: list[Run], bench: Bench) -> int:
    from cudadoctor.render.repair import render_runs

    rows = []
    for one in runs:
        titles = dict.fromkeys(intent.title for intent in one.intents)
        rows.append((one.name, one.begin.created, one.status, "; ".join(titles)))
    if rows:
        render_runs(rows, stream=sys.stdout, home=bench.host.home())
    else:
        print(visible(f"no run has changed {_tilde(bench.target.prefix, bench)}"))
    return 0


def _chosen(name: str | None, runs: list[Run], bench: Bench) -> Run:
    """Return the run that is named, or the last one that can be taken back; what is left open comes first."""
    where = _tilde(bench.target.prefix, bench)
    if name:
        found = next((run for run in runs if run.name == name), None)
        if found is None:
            hint = nearest(name, [run.name for run in runs])
            raise UserMistake(f"{where} has no run {name!r}{hint} (see: cudadoctor undo --list)")
        if found.status in ("undone", "rolled back"):
            raise UserMistake(f"run {name} is {found.status} already")
        return found
    left = [run for run in runs if run.is_open] or [run for run in runs if run.status == "applied"]
    if not left:
        raise UserMistake(f"there is nothing to undo in {where}")
    return left[-1]


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
    return f"run {chosen.name} is not undone: {changed} ({hint} --force: what is there now is kept beside)"


def _say(chosen: Run, done: list[Intent], taken: Taken, bench: Bench) -> None:
    prefix = chosen.begin.prefix
    for intent in done:
        if getattr(intent.step, "path", "") in taken.stayed:
            continue
        print(visible(f"  {undone_in_words(intent.step, prefix)}"))
    for path in taken.stayed:
        if _holds_only_journals(path, bench):
            continue
        print(visible(f"  left: {_tilde(path, bench)}: something else is in it"))
    for path in taken.kept:
        print(visible(f"  kept what was in the way: {_tilde(path, bench)}"))
    print(visible(f"undone: run {chosen.name} in {_tilde(bench.target.prefix, bench)}"))


def _holds_only_journals(path: str, bench: Bench) -> bool:
    """Return whether a folder stayed for the journals alone: that is no news."""
    return f"{path}/{os.path.basename(IN_PREFIX)}" in bench.folders and len(os.listdir(path)) == 1


def _purge(options: argparse.Namespace, runs: list[Run], bench: Bench) -> int:
    """Remove what runs moved aside: of the run that is named, else of all of them."""
    chosen = [_chosen(options.run, runs, bench)] if options.run else runs
    removed: list[str] = []
    for one in chosen:
        bench.must_be_its_own(one)
        book = bench.book(one)
        try:
            removed += purge(book, bench.ground, one)
        finally:
            book.close()
    for path in removed:
        print(visible(f"  removed what was moved aside: {_tilde(path, bench)}"))
    if not removed:
        print("nothing that was moved aside is left")
    return 0


def _tilde(path: str, bench: Bench) -> str:
    home = bench.host.home().rstrip("/")
    return f"~{path[len(home) :]}" if home and path.startswith(f"{home}/") else in_shell(path, "")
