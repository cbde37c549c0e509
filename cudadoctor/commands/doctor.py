"""What looks at an environment, judges it and plans: the same before a repair, to predict it and after."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping, Sequence

from msgspec import Struct, structs

from cudadoctor import __version__
from cudadoctor.actions import Install, Step
from cudadoctor.commands.book import Bench, command, open_bench
from cudadoctor.commands.check import choose, failures, judges_launch, suppressed
from cudadoctor.commands.look import Waiting, asked_in, facts_for
from cudadoctor.config import Config, load_config
from cudadoctor.declare import Check
from cudadoctor.engine import DEEP, collect, everything, examine
from cudadoctor.facts import Facts, Target
from cudadoctor.findings import Severity
from cudadoctor.host import Host, RealHost
from cudadoctor.lowering import Site
from cudadoctor.mistakes import UserMistake, nearest
from cudadoctor.overlay import OverlayHost
from cudadoctor.plan import Plan, Wanted, make_plan
from cudadoctor.probes.target import Request
from cudadoctor.registry import Fixes, Registry, load, load_fixes
from cudadoctor.remembering import Remembering
from cudadoctor.report import Report, Tool


class Patient(Struct, frozen=True):
    """One environment that was looked at, with its folders opened to be changed."""

    host: Host  #: remembers what was asked for the report
    bench: Bench
    report: Report


class Doctor(Struct, frozen=True):
    """What the options name: checks, fixes, settings and a target."""

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
        registry, fixes = load(launch=judges_launch(options)), load_fixes()
        known = [*registry.names, *fixes.fixes, *(failure.check for failure in fixes.failures)]
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
        names = tuple(dict.fromkeys(self.options.names))
        return Wanted(names, self.options.unsafe, exports_only=self.options.command in ("env", "run"))

    @property
    def request(self) -> Request:
        """Return which target, and that only files are read."""
        options = self.options
        named = (options.prefix or "", options.python or "", options.name or "")
        return Request(*named, False, asked_in(options))

    def first_look(self, host: Host) -> Facts:
        """Return the facts as `check` has them."""
        return facts_for(self.options, everything(self.options.deep), host)

    def patient(self) -> Patient:
        """Look at the machine and open its folders; a target that cannot be looked at is a mistake."""
        real = RealHost()
        host = Remembering(real)
        report = self.judge(self.first_look(host))
        if not isinstance(report.target, Target):
            raise UserMistake(f"the target could not be looked at: {report.target.reason}")
        return Patient(host, open_bench(report.target, real), report)

    def planned(self, report: Report, patient: Patient | None) -> Plan:
        """Return the plan for a report; without a patient nothing is predicted."""
        for failure in self.fixes.failures:
            sys.stderr.write(f"cudadoctor: fix {failure.check}: {failure.reason}\n")
        site = self._site(patient) if patient else None
        return make_plan(report, self.fixes.fixes, self.wanted, site)

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

    def _site(self, patient: Patient) -> Site:
        bench, seen = patient.bench, patient.report.facts

        def look(other: Host) -> Facts:
            with Waiting() as waiting:
                facts = collect(other, everything(), self.request, waiting.tell)
            # What real programs did is not predicted: it stands as it was seen.
            return structs.replace(facts, **{name: getattr(seen, name) for name in DEEP})

        return Site(
            host=patient.host,
            ground=bench.ground,
            target=bench.target,
            prefix=bench.prefix,
            roots=bench.ground.roots,
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
    from cudadoctor.installers.prediction import predicted

    return predicted(action, facts)
