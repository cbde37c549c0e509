"""See the check's own page."""

from __future__ import annotations

import re
from collections.abc import Iterator

from cudadoctor.declare import CannotTell, Skip, check
from cudadoctor.facts import Launch, Listener, Packages, Resources, WantedPort
from cudadoctor.findings import Evidence, Finding, Remedy, Severity
from cudadoctor.tasks import version_of
from cudadoctor.versions import numbers

#: A server of vLLM's by its command line, or by the name that it gives its processes.
_VLLM = re.compile(r"(?:^|[\s/])vllm(?:\s|$)|\bvllm\.entrypoints\.|^VLLM::")
_EVERY_IPV4 = ("", "0.0.0.0")
_STOPS = '"Address already in use"'
#: Of vLLM's `create_server_socket`: SO_REUSEPORT is always set in 0.8.5 to 0.20.0, never in 0.6.6, and only
#: for several API servers in 0.25.0 to 0.33.0 (source distributions, read 2026-11-21).
_SHARED_FROM, _SHARED_UNTIL = (0, 8, 5), (0, 21)


@check
def port_in_use(launch: Launch, resources: Resources, packages: Packages) -> Iterator[Finding]:
    """The port that the server will listen on is taken.

    ## What it means
    vLLM takes its port before it loads anything, and stops where that cannot be had: `OSError: [Errno 98]
    Address already in use`. Docker says `port is already allocated`. Of vLLM 0.8.5 to 0.20 two servers of one
    user can have one port, for they set SO_REUSEPORT: the second one starts, and the kernel deals each
    connection to one of the two.

    ## How to tell
    `ss -ltnp`

    ## What helps
    Another port, or ending what has this one.
    """
    if launch.kind == "other":
        raise Skip("the command is no launch of vLLM")
    given = launch.options.get("--port")
    if given is not None and given.reason and launch.container is None:
        raise CannotTell(f"the port is not known: {given.reason}")
    if not resources.ports:
        raise Skip("the launch takes no port of this machine")
    for wanted in resources.ports:
        conflicts = [(each, _sure(wanted, each)) for each in wanted.listeners]
        met = [(each, sure) for each, sure in conflicts if sure is not None]
        if met:
            yield _finding(launch, wanted, max(met, key=lambda pair: pair[1]), resources, packages)


def _sure(wanted: WantedPort, listener: Listener) -> bool | None:
    """Return whether a listener keeps the port from the launch; False: perhaps, None: it does not.

    A socket at `::` takes IPv4 along unless it was told not to, which /proc does not say.
    """
    if wanted.published:  # at an address that is the engine's to choose
        return listener.address == "0.0.0.0"
    host = "127.0.0.1" if wanted.host == "localhost" else wanted.host
    six = ":" in listener.address
    if ":" in host:
        return True if host == "::" or listener.address in ("::", host) else None
    if six:
        return False if listener.address == "::" else None
    return True if host in _EVERY_IPV4 or listener.address in ("0.0.0.0", host) else None


def _finding(
    launch: Launch, wanted: WantedPort, met: tuple[Listener, bool], resources: Resources, packages: Packages
) -> Finding:
    holder, sure = met
    other_container = wanted.published and "docker-proxy" in holder.command
    shared = not wanted.published and _shares(launch, holder, resources, packages)
    evidence = (
        Evidence(wanted.origin, _asks(wanted)),
        Evidence(_holds(holder), f"listens at {holder.address}, port {holder.port}"),
    )
    if shared:
        says = f"port {wanted.port} has a vLLM already: both would have it, and requests go to either"
    elif other_container:
        says = f"port {wanted.port} is published by a container already, if not by an earlier one of this"
    elif sure:
        says = f"will stop with {_STOPS}: port {wanted.port} is held by {_who(holder)}"
    else:
        says = f"may stop with {_STOPS}: {_who(holder)} has port {wanted.port} at {holder.address}"
    severity = Severity.WARNING if shared or other_container or not sure else Severity.ERROR
    return Finding(says, severity, evidence, _remedies(launch, wanted, holder))


def _asks(wanted: WantedPort) -> str:
    if wanted.published:
        return f"publishes port {wanted.port}"
    return f"port {wanted.port} at {wanted.host or 'every address'}"


def _shares(launch: Launch, holder: Listener, resources: Resources, packages: Packages) -> bool:
    """Return whether both sockets let another have the port too: two servers of vLLM, of one user."""
    if _VLLM.search(holder.command) is None or resources.user is None or holder.user != resources.user:
        return False
    version = numbers(version_of(launch, packages))
    return _SHARED_FROM <= version < _SHARED_UNTIL or (launch.integer("--api-server-count") or 1) > 1


def _who(holder: Listener) -> str:
    if holder.pid is None:
        return f"a process of user {holder.user}"
    return f"process {holder.pid}"


def _holds(holder: Listener) -> str:
    return f"{_who(holder)} ({holder.command})" if holder.command else _who(holder)


def _remedies(launch: Launch, wanted: WantedPort, holder: Listener) -> tuple[Remedy, ...]:
    end = Remedy("show", {}, f"end {_holds(holder)}")
    if not wanted.next_free:
        return (end,)
    if not wanted.published:
        return (Remedy("show", {}, f"--port {wanted.next_free}", (end,)),)
    ports = launch.container.ports if launch.container is not None else ()
    inside = next((port.container for port in ports if port.host == str(wanted.port)), "")
    compose = launch.container is not None and launch.container.engine == "compose"
    spelled = f"{wanted.next_free}:{inside}"
    return (Remedy("show", {}, f'ports: "{spelled}"' if compose else f"-p {spelled}", (end,)),)
