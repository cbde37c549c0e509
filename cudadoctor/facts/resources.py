"""What a launch takes of this machine beside its GPU: a TCP port, and room in /dev/shm."""

from __future__ import annotations

from msgspec import Struct

from cudadoctor.facts.section import Section


class Listener(Struct, frozen=True, omit_defaults=True):
    """One socket that listens on a port; who holds it is told only where /proc lets this user see it."""

    address: str  #: "127.0.0.1", "0.0.0.0", "::1", "::"
    port: int
    user: int  #: the id of the user who made it
    pid: int | None = None
    command: str = ""  #: the holder's command line, shortened

    @property
    def everywhere(self) -> bool:
        """Return whether it listens on every address of the machine."""
        return self.address in ("0.0.0.0", "::")


class WantedPort(Struct, frozen=True, omit_defaults=True):
    """A port that the launch will bind on this machine."""

    port: int
    host: str  #: the address as given; "" for every IPv4 address, or where it is not known
    origin: str  #: where it is written; "vLLM's default" where it is not
    published: bool = False  #: by a container's engine, in front of the program
    listeners: tuple[Listener, ...] = ()  #: of any address, on this port
    next_free: int = 0  #: the next higher port that nobody listens on; 0: none


class SharedMemory(Struct, frozen=True, omit_defaults=True):
    """The file system at /dev/shm, where POSIX shared memory lies; None: it states no limit."""

    free_bytes: int | None
    total_bytes: int | None = None  #: where the mount names a size


class Resources(Section, frozen=True):
    """The ports that the launch wants, this machine's shared memory, and the program to be started."""

    ports: tuple[WantedPort, ...] = ()
    user: int | None = None  #: the id of the user who asks, who will start the launch
    shared_memory: SharedMemory | None = None  #: None: there is no /dev/shm here, or it cannot be looked at
    program: str | None = None  #: its path; "": there is none, None: it is not known where to look
