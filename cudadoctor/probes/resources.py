"""What of this machine the launch will want: whether its port is taken and by whom, and room in /dev/shm.

/proc is gone through for a port's holder only where that port is taken.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from itertools import pairwise

from msgspec import structs

from cudadoctor.facts import Environ, Launch, Listener, Resources, SharedMemory, Unknown, WantedPort
from cudadoctor.host import Host, which
from cudadoctor.probes.target import Asked, Request

DEFAULT_PORT = 8000  #: of both servers: vllm/entrypoints/openai/cli_args.py, 0.6.6 to 0.33.0
SHARED_MEMORY = "/dev/shm"
#: What starts a command along the PATH that it was given itself.
_SAME_PATH = frozenset(
    ("env", "nohup", "exec", "command", "nice", "ionice", "stdbuf", "timeout", "taskset", "setsid", "chrt",
     "numactl", "time", "tini", "dumb-init", "cudadoctor")
)  # fmt: skip
_LISTEN = "0A"  #: TCP_LISTEN in the kernel's include/net/tcp_states.h
_TABLE_LIMIT_BYTES = 16 << 20
_MOST_LINKS = 100_000  #: of open files that are looked at for a port's holder
_COMMAND_LENGTH = 120
_SIZE = re.compile(r"(?:^|,)size=(\d+)([kKmMgG]?)(?:,|$)")
_UNITS = {"": 0, "k": 10, "m": 20, "g": 30}

Row = tuple[int, str, int, str]  #: of a socket that listens: port, the kernel's address, user id, inode


def probe(host: Host, request: Request, launch: Launch, environ: Environ) -> Resources | Unknown:
    """Return what is there; Unknown for a launch that is planned for another machine."""
    asked = request.launch or Asked()
    if asked.gpu or asked.memory_bytes:
        named = "--gpu" if asked.gpu else "--gpu-memory"
        return Unknown(f"the launch is planned for another machine ({named})", expected=True)
    wanted = tuple(ports(launch))
    rows = list(_rows(host)) if wanted else []
    found = tuple(_looked_at(host, each, rows) for each in wanted)
    return Resources(found, _user(host), _shared_memory(host), _program(host, launch, environ))


def _program(host: Host, launch: Launch, environ: Environ) -> str | None:
    """Return the path of what the command starts; None where what is around it may bring another PATH."""
    other = any(wrapper.partition(" ")[0] not in _SAME_PATH for wrapper in launch.wrappers)
    if other or launch.source != "command line" or launch.contained or launch.clean or launch.folder:
        return None
    name = launch.argv[0] if launch.argv else "./"
    if name.startswith("/"):
        return name if host.executable(name) else ""
    return None if "/" in name else which(host, name, list(environ.path))


# --- ports --------------------------------------------------------------------------------------------------


def ports(launch: Launch) -> Iterator[WantedPort]:
    """Yield the ports that the launch binds here; none where that is not known, or left to the machine."""
    if launch.kind == "vllm-llm" or launch.flag("--headless"):
        return
    container = launch.container
    if container is None or container.network == "host":
        yield from _own(launch)
        return
    for port in container.ports:
        if port.host.isdecimal() and 0 < int(port.host) < 1 << 16:
            yield WantedPort(int(port.host), "", launch.source, published=True)


def _own(launch: Launch) -> Iterator[WantedPort]:
    given = launch.options.get("--port")
    if launch.text("--uds") is not None or (given is not None and launch.integer("--port") is None):
        return
    port = DEFAULT_PORT if given is None else launch.integer("--port")
    if port is not None and 0 < port < 1 << 16:
        host = launch.text("--host") or ""
        yield WantedPort(port, "" if host == "None" else host, given.origin if given else "vLLM's default")


def _rows(host: Host) -> Iterator[Row]:
    """Yield what listens; raise OSError where the kernel does not say. IPv6 may be turned off altogether."""
    tables = [host.read("/proc/net/tcp", _TABLE_LIMIT_BYTES)]
    with contextlib.suppress(FileNotFoundError):
        tables.append(host.read("/proc/net/tcp6", _TABLE_LIMIT_BYTES))
    for table in tables:
        for line in table.decode("ascii", "replace").splitlines():
            # Of the many that are connected none is taken apart.
            if f" {_LISTEN} " in line and (row := _row(line.split())) is not None:
                yield row


def _row(fields: list[str]) -> Row | None:
    """Return a line of /proc/net/tcp as a socket that listens; None for any other."""
    if len(fields) < 10 or fields[3] != _LISTEN:
        return None
    address, _, port = fields[1].partition(":")
    try:
        int(address, 16)
        return int(port, 16), address, int(fields[7]), fields[9]
    except ValueError:
        return None


def _address(text: str) -> str:
    """Return an address as people write it; the kernel has it in words of 32 bits in its own byte order."""
    import socket
    import sys

    words = [int(text[at : at + 8], 16).to_bytes(4, sys.byteorder) for at in range(0, len(text), 8)]
    packed = b"".join(words)
    if packed[:12] == bytes(10) + b"\xff\xff":  # IPv4 through an IPv6 socket
        packed = packed[12:]
    return socket.inet_ntop(socket.AF_INET if len(packed) == 4 else socket.AF_INET6, packed)


def _looked_at(host: Host, wanted: WantedPort, rows: list[Row]) -> WantedPort:
    held = [row for row in rows if row[0] == wanted.port]
    if not held:
        return wanted
    holders = _holders(host, {inode for *_, inode in held})
    listeners = tuple(
        _with_holder(host, Listener(_address(address), port, user), holders.get(inode))
        for port, address, user, inode in held
    )
    taken = {row[0] for row in rows}
    free = next((port for port in range(wanted.port + 1, 1 << 16) if port not in taken), 0)
    return structs.replace(wanted, listeners=listeners, next_free=free)


def _holders(host: Host, inodes: set[str]) -> dict[str, int]:
    """Return the first process that has each of these sockets open, as far as this user may see that."""
    wanted = {f"socket:[{inode}]": inode for inode in inodes if inode != "0"}
    found: dict[str, int] = {}
    looked = 0
    for pid in _processes(host):
        for number in _names(host, f"/proc/{pid}/fd"):
            looked += 1
            if (inode := wanted.get(_link(host, f"/proc/{pid}/fd/{number}"))) is not None:
                found.setdefault(inode, pid)
        if len(found) == len(wanted) or looked > _MOST_LINKS:
            break
    return found


def _processes(host: Host) -> list[int]:
    return sorted(int(name) for name in _names(host, "/proc") if name.isdecimal())


def _proxy(host: Host, port: int) -> int | None:
    """Return the process by which docker publishes a port: root's, so that its open files are not to be seen.

    Anyone may read its command line, and that has the port in it.
    """
    for pid in _processes(host):
        words = _command(host, pid)
        pairs = pairwise(words)
        if words[:1] and words[0].endswith("docker-proxy") and ("-host-port", str(port)) in pairs:
            return pid
    return None


def _command(host: Host, pid: int) -> list[str]:
    try:
        text = host.read(f"/proc/{pid}/cmdline", 1 << 16).rstrip(b"\0").decode("utf-8", "replace")
    except OSError:
        return []
    return text.split("\0")


def _names(host: Host, path: str) -> list[str]:
    try:
        return host.list(path)
    except OSError:  # another user's, or gone by now
        return []


def _link(host: Host, path: str) -> str:
    try:
        return host.readlink(path)
    except OSError:
        return ""


def _with_holder(host: Host, listener: Listener, pid: int | None) -> Listener:
    if pid is None and listener.user == 0:
        pid = _proxy(host, listener.port)
    if pid is None:
        return listener
    command = without_secrets(_command(host, pid))
    if len(command) > _COMMAND_LENGTH:
        command = f"{command[: _COMMAND_LENGTH - 4]} ..."
    return structs.replace(listener, pid=pid, command=command)


_SECRET = re.compile(r"(?i)(key|token|secret|password|passwd|auth|credential)")


def without_secrets(words: list[str]) -> str:
    """Return a command line with the value of every option that is named like a secret left out."""
    told: list[str] = []
    hide = False
    for word in words:
        name, equals, _ = word.partition("=")
        if hide and not word.startswith("-"):
            word = "[secret]"
        elif equals and _SECRET.search(name):
            word = f"{name}=[secret]"
        hide = word.startswith("-") and not equals and bool(_SECRET.search(word))
        told.append(word)
    return " ".join(told).strip()


def _user(host: Host) -> int | None:
    try:
        text = host.read("/proc/self/status", 1 << 16).decode("ascii", "replace")
    except OSError:
        return None
    match = re.search(r"^Uid:\s+\d+\s+(\d+)", text, re.MULTILINE)
    return int(match[1]) if match else None


# --- shared memory ------------------------------------------------------------------------------------------


def _shared_memory(host: Host) -> SharedMemory | None:
    if host.kind(SHARED_MEMORY) != "directory":
        return None
    try:
        return SharedMemory(host.space(SHARED_MEMORY).free_bytes, _size_of_mount(host))
    except OSError:
        return None


def _size_of_mount(host: Host) -> int | None:
    """Return the size that /dev/shm was mounted with, where one is named; of two mounts the upper counts."""
    try:
        text = host.read("/proc/self/mounts", 1 << 20).decode("utf-8", "replace")
    except OSError:
        return None
    size = None
    for fields in map(str.split, text.splitlines()):
        if len(fields) > 3 and fields[1] == SHARED_MEMORY:
            match = _SIZE.search(fields[3])
            size = int(match[1]) << _UNITS[match[2].lower()] if match else None
    return size
