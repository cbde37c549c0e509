"""Packages, as `fix` and `undo` plan, install and bring them back; loaded only where some are asked for."""

from __future__ import annotations

from cudadoctor.actions import Install, Version
from cudadoctor.commands.look import Waiting
from cudadoctor.facts import Conda, Facts, Packages, Target
from cudadoctor.ground import Conflict
from cudadoctor.host import Host
from cudadoctor.installers.choice import Refused, prepare
from cudadoctor.installers.inventory import freeze
from cudadoctor.lowering import ByHand
from cudadoctor.transaction import Installer


def prepared(action: Install, facts: Facts, host: Host) -> Install:
    """Return the install with the installer's whole command; raise Conflict where none may or can do it."""
    target, packages = facts.target, facts.packages
    if not isinstance(target, Target) or not isinstance(packages, Packages):
        raise Conflict("the environment's packages could not be looked at")
    conda = facts.conda if isinstance(facts.conda, Conda) else Conda("")
    step = prepare(action, target, packages, conda, host)
    if isinstance(step, Refused):
        raise ByHand(step.reason, step.show)
    return step


def installer_of(target: Target, host: Host) -> Installer:
    """Return how packages are installed into a target, and how they come back."""
    from cudadoctor.installers import running

    def install(step: Install) -> None:
        with Waiting() as waiting:
            running.install(step, host, waiting.say)

    def restore(step: Install) -> None:
        with Waiting() as waiting:
            running.restore(step, target, host, waiting.say)

    def installed() -> tuple[Version, ...]:
        return freeze(target, host)

    return Installer(install, installed, restore)
