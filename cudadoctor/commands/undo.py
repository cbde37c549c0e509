"""`cudadoctor undo`: take a run back, the last step first, byte for byte."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from cudadoctor.actions import Export, WriteFile
from cudadoctor.commands.book import Bench, command, installer_of, open_bench
from cudadoctor.commands.look import end_on_signals, facts_for
from cudadoctor.facts import Target
from cudadoctor.ground import Conflict, step_path
from cudadoctor.host import RealHost
from cudadoctor.journal import Intent, Run
from cudadoctor.mistakes import UserMistake, nearest
from cudadoctor.places import in_prefix
from cudadoctor.redact import in_shell
from cudadoctor.show import visible
from cudadoctor.transaction import (
    Aside,
    Changed,
    Failed,
    Taken,
    asides,
    purge,
    says,
    standing,
    take_back,
)
from cudadoctor.words import taken_back


def run(options: argparse.Namespace) -> int:
    """List, purge or take back; return 0, or raise what stood in the way."""
    target = facts_for(options, {"target"}).target
    if not isinstance(target, Target):
        raise UserMistake(f"the target could not be looked at: {target.reason}")
    bench = open_bench(target, RealHost())
    if options.list:
        return _list(bench)
    bench.must_not_be_busy()
    if options.purge:
        return _purge(options, bench)
    chosen = _chosen(options, bench)
    end_on_signals()
    return _take_back(options, chosen, bench)


def _list(bench: Bench) -> int:
    from cudadoctor.render.repair import render_runs

    shelf = bench.shelf()
    rows = [_row(one, bench) for one in sorted((*shelf.own, *shelf.foreign), key=lambda run: run.order)]
    rows += [(one.name, "", one.status, one.why) for one in shelf.unreadable]
    if rows:
        render_runs(rows, stream=sys.stdout, home=bench.host.home())
    else:
        print(visible(f"no run has changed {_tilde(bench.target.prefix, bench)}"))
    return 0


def _row(run: Run, bench: Bench) -> tuple[str, str, str, str]:
    """Return name, time, status and what it did, as they are listed."""
    if run.begin.prefix != bench.prefix:
        return run.name, run.begin.created, "not of here", f"of another environment: {run.begin.prefix}"
    titles = "; ".join(dict.fromkeys(intent.title for intent in run.intents))
    why = f" ({run.why})" if run.why else ""
    status = "at work" if bench.is_at_work(run) else run.status
    return run.name, run.begin.created, status, f"{titles}{why}"


def _chosen(options: argparse.Namespace, bench: Bench) -> Run:
    """Return the run that is named, or the last one that can be taken back; what is left open comes first."""
    if options.run:
        found = _named(options, bench)
        if found.status in ("undone", "rolled back"):
            raise UserMistake(f"run {found.name} is {found.status} already")
        return found
    bench.must_be_readable()
    shelf = bench.shelf()
    left = [run for run in shelf.own if run.is_open] or [run for run in shelf.own if run.status == "applied"]
    if not left:
        others = ", ".join(dict.fromkeys(run.begin.prefix for run in shelf.foreign))
        why = f": what is written down here is of another environment: {others}" if others else ""
        raise UserMistake(f"there is nothing to undo in {_tilde(bench.target.prefix, bench)}{why}")
    return left[-1]


def _named(options: argparse.Namespace, bench: Bench) -> Run:
    name, shelf = options.run, bench.shelf()
    for unreadable in shelf.unreadable:
        if unreadable.name == name:
            raise UserMistake(
                f"the journal of run {name} cannot be read: {unreadable.path}: {unreadable.why}"
            )
    runs = (*shelf.own, *shelf.foreign)
    found = next((run for run in runs if run.name == name), None)
    if found is None:
        where, hint = _tilde(bench.target.prefix, bench), nearest(name, [run.name for run in runs])
        listed = command(options, bench.host.home(), "undo", "--list")
        raise UserMistake(f"{where} has no run {name!r}{hint} (see: {listed})")
    return found


def _must_be_the_last(options: argparse.Namespace, chosen: Run, bench: Bench) -> None:
    """Refuse where a later run changed the same: what that one found is not what was before this one."""
    mine = standing(chosen)
    later = [run for run in bench.runs() if run.order > chosen.order and standing(run) & mine]
    if later:
        both = ", ".join(sorted(standing(later[-1]) & mine))
        first = command(options, bench.host.home(), "undo", later[-1].name)
        raise UserMistake(
            f"run {chosen.name} is not undone: run {later[-1].name} came later and is about the same "
            f"({both}): undo that one first: {first}"
        )


def _take_back(options: argparse.Namespace, chosen: Run, bench: Bench) -> int:
    bench.must_be_its_own(chosen)
    _must_be_the_last(options, chosen, bench)
    before = _exports(chosen, bench)
    book = bench.book(chosen)
    done: list[Intent] = []
    try:
        taken = take_back(
            book, bench.ground, chosen, installer_of(bench), force=options.force, tell=done.append
        )
    except Changed as changed:
        raise UserMistake(_refusal(chosen, changed)) from None
    except Failed as failed:
        raise UserMistake(f"run {chosen.name} could not be taken back: {failed}") from None
    finally:
        book.close()
    _say(chosen, done, taken, bench)
    _say_what_shells_have(before, _exports(chosen, bench), bench)
    return 0


def _refusal(chosen: Run, changed: Changed) -> str:
    """Say what was changed since, and what force would do about it."""
    forced = ["what is there now is kept beside"] if changed.files else []
    if changed.packages:
        forced.append("packages go back to what they were before the run, what came since is uninstalled")
    return f"run {chosen.name} is not undone: {changed} (use --force: {'; '.join(forced)})"


def _exports(run: Run, bench: Bench) -> tuple[Export, ...]:
    """Return what the environment's activation exports now, where the run wrote files and it is active."""
    if not (bench.target.active and any(isinstance(intent.step, WriteFile) for intent in run.intents)):
        return ()
    from cudadoctor.exports import Edited, NoActivation, persisted

    def read(path: str) -> bytes | None:
        try:
            return bench.host.read(path)
        except OSError:
            return None

    try:
        found = persisted(bench.target.kind, bench.target.prefix, read)
    except NoActivation:
        return ()
    return () if isinstance(found, Edited) else found


def _say_what_shells_have(before: Sequence[Export], after: Sequence[Export], bench: Bench) -> None:
    """Tell of the variables that the shell we are run from was given by what was taken back."""
    if not before:
        return
    from cudadoctor.exports import outcome

    environ = bench.host.environ
    wanted = outcome([export for export in before if export not in after], environ, bench.target.prefix)
    names = [name for name, value in wanted.items() if environ.get(name) == value]
    if names:
        print(f"An open shell still has {', '.join(names)} as the run left it: open a new one.")


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
        print(visible(f"  not brought back: {_tilde(path, bench)}: it, or its folder, was removed since"))
    purged = len(chosen.purged())
    things = f"{purged} {'thing' if purged == 1 else 'things'}"
    gone = f"; what it moved aside was purged and stays gone: {things}" if purged else ""
    print(visible(f"undone: run {chosen.name} in {_tilde(bench.target.prefix, bench)}{gone}"))


def _holds_only_journals(path: str, bench: Bench) -> bool:
    """Return whether a folder stayed for the journals alone: that is no news."""
    own = in_prefix(bench.prefix)
    return path == os.path.dirname(own) and os.listdir(path) == [os.path.basename(own)]


def _purge(options: argparse.Namespace, bench: Bench) -> int:
    """Remove what runs moved aside or kept: of the run that is named, else of all of them."""
    chosen = [_named(options, bench)] if options.run else bench.runs()
    left = () if options.run else bench.shelf().unreadable
    removed: list[Aside] = []
    problems = [f"a journal cannot be read: {one.path}: {one.why}" for one in left]
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
