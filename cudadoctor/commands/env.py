"""`cudadoctor env`: the exports of the fixes, for `eval "$(cudadoctor env)"` in a launch script."""

from __future__ import annotations

import argparse
import sys

from cudadoctor.actions import Export
from cudadoctor.commands.doctor import Doctor
from cudadoctor.exports import Edited, NoActivation, Unwritable, commands, merged, persisted
from cudadoctor.facts import Target
from cudadoctor.host import RealHost
from cudadoctor.mistakes import UserMistake


def run(options: argparse.Namespace) -> int:
    """Print what the environment's own files export already, and what `fix` would add to them."""
    doctor = Doctor.of(options)
    patient = doctor.patient()
    target, real = patient.bench.target, patient.bench.host
    plan = doctor.planned(patient.report, patient)
    exports = merged(_before(target, target.prefix, real), plan.exports)
    try:
        text = commands(exports, real.environ, target.prefix, options.shell)
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
