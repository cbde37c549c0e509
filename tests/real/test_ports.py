"""Ports with real sockets: what is said of one, against a real bind as vLLM makes it."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cudadoctor.facts import Environ, Resources
from cudadoctor.findings import Severity
from cudadoctor.host import RealHost
from cudadoctor.outcomes import Outcome, Passed
from cudadoctor.probes.resources import probe
from cudadoctor.probes.target import Asked, Request
from tests.checks.build import one
from tests.checks.launched import judged
from tests.launch.read import typed

ENVIRON = Environ({}, "the current variables", ("/usr/bin",))
HOSTS = ("", "0.0.0.0", "127.0.0.1", "127.0.0.2", "::", "::1")
_SERVER = """import socket
server = socket.create_server(("127.0.0.1", 0))
print(server.getsockname()[1], flush=True)
input()
"""
#: Where something listens already; "::4": at :: with IPv4 left out.
LISTENING = ("0.0.0.0", "127.0.0.1", "::", "::4", "::1")


@contextlib.contextmanager
def listening(at: str, port: int = 0, reuse_port: bool = False) -> Iterator[int]:
    """Listen at an address, as servers mostly do it, and yield the port."""
    family = socket.AF_INET6 if ":" in at else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, at == "::4")
        try:
            server.bind((at.removesuffix("4") if at == "::4" else at, port))
        except OSError as error:
            if error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                pytest.skip(f"this machine has no address {at}")
            raise
        server.listen()
        yield server.getsockname()[1]


def binds(host: str, port: int, reuse_port: bool = True) -> bool:
    """Return whether vLLM's socket gets the port (its create_server_socket, 0.8.5 to 0.20.0)."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        try:
            server.bind((host, port))
        except OSError as error:
            assert error.errno == errno.EADDRINUSE
            return False
        return True


def said(host: str, port: int) -> Outcome:
    launch = typed(f"vllm serve m --port {port}" + (f" --host {host}" if host else ""))
    found = probe(RealHost(), Request(launch=Asked()), launch, ENVIRON)
    return judged("port-in-use", launch, resources=found)


@pytest.mark.parametrize("at", LISTENING)
@pytest.mark.parametrize("host", HOSTS)
def test_what_is_said_of_a_port_is_what_the_kernel_does(host: str, at: str) -> None:
    with listening(at) as port:
        outcome = said(host, port)
        if binds(host, port):
            perhaps = at == "::4" and ":" not in host  # the kernel does not show that IPv4 was left out
            assert isinstance(outcome, Passed) or (perhaps and one(outcome, Severity.WARNING))
        else:
            one(outcome, Severity.WARNING if at == "::" and ":" not in host else Severity.ERROR)


def test_a_free_port_is_free() -> None:
    with listening("127.0.0.1") as port:
        pass
    assert isinstance(said("", port), Passed) and binds("", port)


def test_two_sockets_that_both_allow_it_have_one_port_and_one_that_does_not_has_it_alone() -> None:
    with listening("0.0.0.0", reuse_port=True) as port:
        assert binds("", port) and not binds("", port, reuse_port=False)
    with listening("0.0.0.0") as port:
        assert not binds("", port)


def test_the_holder_is_named_with_its_command() -> None:
    child = subprocess.Popen(
        [sys.executable, "-S", "-c", _SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with child:
        assert child.stdout is not None and child.stdin is not None
        port = int(child.stdout.readline())
        launch = typed(f"vllm serve m --port {port}")
        found = probe(RealHost(), Request(launch=Asked()), launch, ENVIRON)
        child.stdin.close()
    assert isinstance(found, Resources)
    (listener,) = found.ports[0].listeners
    assert (listener.pid, listener.user) == (child.pid, os.geteuid())
    assert listener.command.startswith(f"{sys.executable} -S -c import socket")
    assert found.user == os.geteuid() and found.ports[0].next_free > port


def test_shared_memory_is_as_large_as_the_system_says() -> None:
    if not Path("/dev/shm").is_dir():
        pytest.skip("this machine has no /dev/shm")
    found = probe(RealHost(), Request(launch=Asked()), typed("vllm serve m"), ENVIRON)
    state = os.statvfs("/dev/shm")
    assert isinstance(found, Resources) and found.shared_memory is not None
    free = found.shared_memory.free_bytes
    assert free is None or abs(free - state.f_bfree * state.f_frsize) < 64 << 20
