"""`cudadoctor env`: the exports of the fixes, for `eval "$(cudadoctor env)"` in a launch script."""

from __future__ import annotations

import argparse
import sys

from cudadoctor.actions import Export
from cudadoctor.commands.book import open_bench
from cudadoctor.commands.fix import Doctor
from cudadoctor.exports import Edited, NoActivation, Unwritable, commands, merged, persisted
from cudadoctor.facts import Target
from cudadoctor.host import RealHost
from cudadoctor.mistakes import UserMistake
from cudadoctor.overlay import Remembering
from cudadoctor.plan import make_plan


def run(options: argparse.Namespace) -> int:
    """Print what the environment's own files export already, and what `fix` would add to them."""
    doctor = Doctor.of(options)
    real = RealHost()
    host = Remembering(real)
    report = doctor.judge(doctor.first_look(host))
    if not isinstance(report.target, Target):
        raise UserMistake(f"the target could not be looked at: {report.target.reason}")
    bench = open_bench(report.target, real)
    plan = make_plan(report, doctor.fixes.fixes, doctor.wanted, doctor.site(host, bench, report))
    planned = [a for change in plan.changes for a in change.actions if isinstance(a, Export)]
    exports = merged(_before(report.target, report.target.prefix, real), planned)
    try:
        text = commands(exports, real.environ, report.target.prefix, options.shell)
    except Unwritable as problem:
        raise UserMistake(str(problem)) from None
    sys.stdout.write(text)
    return 0


def _before(target: Target, prefix: str, host: RealHost) -> tuple[Export, ...]:
    def read(path: str) -> bytes | None:
        try:
            return host.read(path)
        except OSError:
            return None

    try:
        found = persisted(target.kind, prefix, read)
    except NoActivation:
        return ()
    if isinstance(found, Edited):
        raise UserMistake(f"{found.path}: was edited by hand, and is not understood")
    return found
