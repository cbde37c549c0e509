"""See the fix's own page."""

from __future__ import annotations

from collections.abc import Iterator

import cudadoctor.values as values
from cudadoctor.actions import Action, Safety, Show
from cudadoctor.declare import fix
from cudadoctor.facts import Facts, Machine
from cudadoctor.findings import Remedy

#: Where the hard limit on the stack is set, by what the process runs in.
_PLACES = {
    "docker": "start the container with a higher limit: docker run --ulimit stack=-1 ...",
    "podman": "start the container with a higher limit: podman run --ulimit stack=-1 ...",
    "kubernetes": (
        "a pod cannot set it: on the node, LimitSTACK=infinity for the container runtime's service "
        '(containerd), or default_ulimits = ["stack=-1:-1"] of CRI-O'
    ),
    "lxc": "in the container's configuration: lxc.prlimit.stack = unlimited",
}
_HOST = (
    "an administrator writes the line `* hard stack unlimited` (for root one with `root`) into "
    "/etc/security/limits.d/90-stack.conf, and you log in again; a systemd service takes LimitSTACK=infinity "
    "in its unit instead"
)


@fix(Safety.MANUAL)
def stack_limit(remedy: Remedy, facts: Facts) -> Iterator[Action]:
    """Shows where this machine sets the hard limit on the stack, which a process cannot raise for itself.

    ## What it does
    Nothing but print it: the option of `docker run` inside a container, the container runtime's setting under
    Kubernetes, `/etc/security/limits.d` or a service's `LimitSTACK=` elsewhere. GCC raises the soft limit by
    itself, as far as the hard one allows; a hard limit can be raised by an administrator only, and holds for
    processes that are started afterwards.

    ## Why it is safe
    Nothing is changed, and nothing is run.

    ## How it is undone
    There is nothing to undo.
    """
    if values.text(remedy, "limit") != "unlimited":
        raise ValueError(f"{remedy.fix}: {remedy.values['limit']!r} is no limit that helps")
    container = facts.machine.container if isinstance(facts.machine, Machine) else ""
    yield Show(_PLACES.get(container, _HOST))
