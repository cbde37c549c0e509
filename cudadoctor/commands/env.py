"""`cudadoctor env`: the exports of the fixes, for `eval "$(cudadoctor env)"` in a launch script."""

from __future__ import annotations

import argparse
import sys

from cudadoctor.actions import Export
from cudadoctor.commands.doctor import Doctor, Patient
from cudadoctor.exports import Edited, NoActivation, Unwritable, commands, merged, persisted
from cudadoctor.facts import Target
from cudadoctor.host import RealHost
from cudadoctor.mistakes import UserMistake
from cudadoctor.plan import Plan


def run(options: argparse.Namespace) -> int:
    """Print what the environment's own files export already, and what `fix` would add to them."""
    doctor = Doctor.of(options)
    patient = doctor.patient()
    bench = patient.bench
    exports = exports_of(patient, doctor.planned(patient.report, patient))
    try:
        text = commands(exports, bench.host.environ, bench.target.prefix, options.shell)
    except Unwritable as problem:
        raise UserMistake(str(problem)) from None
    sys.stdout.write(text)
    return 0


def exports_of(patient: Patient, plan: Plan) -> tuple[Export, ...]:
    """Return what activation exports already, with what a plan adds to it."""
    bench = patient.bench
    return merged(_before(bench.target, bench.target.prefix, bench.host), plan.exports)


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
