"""`cudadoctor explain LOG`: the cause in a log, and whether it is so here."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Iterable, Iterator

from msgspec import structs

from cudadoctor.commands.check import choose
from cudadoctor.commands.look import Waiting, facts_for, machine_names, must_name_no_launch
from cudadoctor.config import load_config
from cudadoctor.engine import examine, needed
from cudadoctor.explain.cause import explain
from cudadoctor.explain.confirm import confirmed
from cudadoctor.explain.model import Explanation, Signature
from cudadoctor.explain.scan import scan
from cudadoctor.explain.signatures import rows
from cudadoctor.explain.source import blocks
from cudadoctor.facts import Facts, Machine, Target
from cudadoctor.mistakes import UserMistake
from cudadoctor.outcomes import Outcome
from cudadoctor.redact import Redactor, for_facts
from cudadoctor.registry import load
from cudadoctor.report import Report, encode


def run(options: argparse.Namespace) -> int:
    """Explain the log and print; return 1 where a cause was found."""
    if options.facts:
        must_name_no_launch(options)
    if options.facts == options.log == "-":
        raise UserMistake("only one of LOG and --facts can be read from stdin")
    told = read(options.log)
    facts: Facts | None = None
    if not options.no_check and told.root is not None:
        told, facts = looked_up(told, options)
    home = _home(options, facts)
    hosts = machine_names(options.facts)
    redactor = for_facts(facts, home, hosts, True) if facts else Redactor(home, hosts=hosts, thorough=True)
    show(redactor.value(told), redactor.text(home), options)
    return 1 if told.root is not None else 0


def read(name: str) -> Explanation:
    """Return what the log called `name` tells; raise UserMistake where it cannot be read."""
    with Waiting() as waiting:
        return explain(scan(rows(), _watched(blocks(name), name, waiting)), _called(name))


def _watched(read: Iterable[bytes], name: str, waiting: Waiting) -> Iterator[bytes]:
    """Pass blocks on, and say from time to time how far it is."""
    done = said = 0
    for block in read:
        done += len(block)
        if done - said >= _STEP:
            said = done
            waiting.say(f"reading {_called(name)}: {done >> 20} MiB")
        yield block


_STEP = 256 << 20


def _called(name: str) -> str:
    return "stdin" if name == "-" else name


def looked_up(told: Explanation, options: argparse.Namespace) -> tuple[Explanation, Facts]:
    """Return what a log tells with its causes judged on this machine, or on the report to replay."""
    if options.argv:
        from cudadoctor.commands.preflight import asked_for

        options.asked = asked_for(options)
    names = _checks(told)
    registry = load(launch=True)
    config = load_config(options.config or "", options.no_config, registry)
    chosen = choose(registry, (), [*options.ignore, *config.ignore])
    checks = [each for each in chosen if each.name in names]
    facts = facts_for(options, needed(checks, options.deep, ("target", "machine")))
    return _judged(told, examine(facts, checks, registry.own()), facts, bool(options.facts)), facts


def judged(told: Explanation, report: Report) -> Explanation:
    """Return what a log tells with its causes judged by the outcomes of a report."""
    return _judged(told, report.outcomes, report.facts, report.replayed)


def _judged(told: Explanation, outcomes: Iterable[Outcome], facts: Facts, replayed: bool) -> Explanation:
    signatures = {row.id: row.signature for row in rows()}
    told = confirmed(told, signatures, {each.check: each for each in outcomes})
    return structs.replace(told, notes=(*told.notes, *_elsewhere(told, signatures, facts, replayed)))


def _checks(told: Explanation) -> set[str]:
    """Return the checks that can confirm a cause of this log."""
    found = {each.signature for each in (told.root, *told.others) if each is not None}
    return {name for row in rows() if row.id in found for name in row.signature.checks}


def _elsewhere(
    told: Explanation, signatures: dict[str, Signature], facts: Facts, replayed: bool
) -> Iterator[str]:
    """Say where the log's own environment is not the one that was looked at.

    It is never looked at of its own accord: what a log names is not what its reader trusts. Users have other
    names in a saved report.
    """
    target = facts.target
    if not isinstance(target, Target) or told.root is None or not signatures[told.root.signature].checks:
        return
    plain = _nobodys if replayed else os.path.realpath
    own = {plain(folder) for folder in target.site_packages}
    others = [site for site in told.sites if not re.search(_PASSING, site)]
    if not others or any(plain(site) in own for site in told.sites):
        return
    prefix = re.sub("/lib(?:64)?/python3[^/]*/[^/]*$", "", others[0])
    then = f": look there with --prefix {prefix}" if not replayed and os.path.isdir(prefix) else ""
    yield f"the log is of {prefix}, looked at was {target.prefix}{then}"


def _nobodys(path: str) -> str:
    return re.sub("^(?:/(?:home|Users)/[^/]+|/root)(?=/)", "~", path)


#: Folders that belong to a user beside an environment, or to one build.
_PASSING = r"/\.local/|/pip-build-env-|/builds-v0/"


def _home(options: argparse.Namespace, facts: Facts | None) -> str:
    """Return the home folder of whoever was looked at."""
    if not options.facts:
        return os.path.expanduser("~")
    return facts.machine.home if facts is not None and isinstance(facts.machine, Machine) else ""


def show(told: Explanation, home: str, options: argparse.Namespace) -> None:
    """Print what a log tells in the chosen format."""
    if options.format == "json":
        sys.stdout.buffer.write(encode(told) + b"\n")
        return
    from cudadoctor.render import explanation

    explanation.render(told, home, stream=sys.stdout)
