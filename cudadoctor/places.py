"""Where the journals of an environment lie: in it, or else in the user's state folder."""

from __future__ import annotations

import os
from collections.abc import Mapping

from cudadoctor.host import Host

IN_PREFIX = "etc/cudadoctor"


def in_prefix(prefix: str) -> str:
    """Return the folder in the environment itself."""
    return f"{prefix.rstrip('/')}/{IN_PREFIX}"


def in_state(prefix: str, environ: Mapping[str, str], home: str) -> str:
    """Return the user's own folder for an environment that cannot be written to."""
    import hashlib  # 5 ms: most users have no such folder

    key = hashlib.sha256(prefix.encode("utf-8", "surrogateescape")).hexdigest()[:12]
    return f"{_state(environ, home)}/{os.path.basename(prefix) or 'root'}-{key}"


def folders(host: Host, prefix: str) -> tuple[str, ...]:
    """Return the folders in which its journals can be now; `prefix` has every link resolved."""
    home = host.home()
    if host.kind(_state(host.environ, home)) != "directory":
        return (in_prefix(prefix),)
    return in_prefix(prefix), in_state(prefix, host.environ, home)


def _state(environ: Mapping[str, str], home: str) -> str:
    state = environ.get("XDG_STATE_HOME", "")
    if not state.startswith("/"):  # a relative one is to be ignored: XDG Base Directory Specification 0.8
        state = f"{home}/.local/state"
    return f"{state}/cudadoctor"
