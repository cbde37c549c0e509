"""What the launched program will see: its variables, and what of this machine is behind its paths."""

from __future__ import annotations

import posixpath
import re

from cudadoctor.facts import Environ, Machine
from cudadoctor.facts.launch import Launch, Mount
from cudadoctor.host import Host

#: What a container's root user calls home; another user's home only the image tells.
_CONTAINER_HOME = "/root"
_TRUE = frozenset(("1", "ON", "YES", "TRUE"))


def public(address: str) -> str:
    """Return an address, or a text with one, without a name and password in it."""
    return re.sub(r"(?<=//)[^/@\s]*@", "", address)


class Surroundings:
    """The variables and files of one launch, in a container or not."""

    def __init__(self, host: Host, launch: Launch, environ: Environ, machine: Machine) -> None:
        self.host, self.launch = host, launch
        self._environ, self._machine = environ, machine

    def of(self, launch: Launch) -> Surroundings:
        """Return the surroundings of another launch on the same machine."""
        return Surroundings(self.host, launch, self._environ, self._machine)

    def get(self, name: str) -> str | None:
        """Return a variable as the program sees it, or None where it is not set."""
        if name in self.launch.unset:
            return None
        if name in self.launch.variables:
            return self.launch.variables[name].value
        if self.launch.clean or self.contained:
            return None
        value = self._environ.get(name)
        return self.host.environ.get(name) if value is None else value

    def true(self, name: str) -> bool:
        """Return whether a variable says yes, by the rule of huggingface_hub."""
        return (self.get(name) or "").upper() in _TRUE

    @property
    def contained(self) -> bool:
        """Return whether the program runs in a container, whose files and variables are its own."""
        return self.launch.container is not None or bool(self.launch.image)

    @property
    def home(self) -> str:
        """Return the user's home folder, "" where only the image tells."""
        if not self.contained:
            return self.get("HOME") or self._machine.home
        user = self.launch.container.user if self.launch.container else ""
        return self.get("HOME") or (_CONTAINER_HOME if user in ("", "0", "root", "0:0") else "")

    def absolute(self, path: str) -> str:
        """Return a path of the program's as an absolute one; "" where it depends on what is not known."""
        if path.startswith("/"):
            return path
        folder = self.launch.folder
        if not folder.startswith("/"):
            if self.contained:
                return ""
            folder = posixpath.join(self._environ.cwd or self.host.cwd(), folder)
        return posixpath.join(folder, path.removeprefix("./")) if folder else ""

    def outside(self, path: str) -> str:
        """Return where a path of the program's lies on this machine, "" where nothing of it is to be seen."""
        path = self.absolute(path)
        if not path or not self.contained:
            return path
        best = self.mount(path)
        if best is None or "/" not in best.source:
            return ""
        return self.source(best) + path[len(best.target.rstrip("/")) :]

    def mount(self, path: str) -> Mount | None:
        """Return the mount that a path of the program's is on, None where it is on the image's own files."""
        path = self.absolute(path)
        mounts = self.launch.container.mounts if self.launch.container else ()
        inside = [mount for mount in mounts if path and f"{path}/".startswith(mount.target.rstrip("/") + "/")]
        return max(inside, key=lambda mount: len(mount.target.rstrip("/")), default=None)

    def source(self, mount: Mount) -> str:
        """Return the folder of this machine that a mount shows, without a slash at its end."""
        source = mount.source
        if source == "~" or source.startswith("~/"):
            source = self._machine.home + source[1:]
        if not source.startswith("/"):
            source = posixpath.normpath(posixpath.join(self._environ.cwd or self.host.cwd(), source))
        return source.rstrip("/")

    def hf_home(self) -> str:
        """Return huggingface_hub's own folder, as the program spells it."""
        given = self.get("HF_HOME")
        if given is None:
            above = self.get("XDG_CACHE_HOME")
            given = f"{self.home}/.cache/huggingface" if above is None else f"{above}/huggingface"
        return self.absolute(self.expanded(given)).rstrip("/")

    def token_file(self) -> str:
        """Return where the hub's token would be kept on this machine, "" where that is not to be seen."""
        given = self.get("HF_TOKEN_PATH")
        return self.outside(f"{self.hf_home()}/token" if given is None else self.expanded(given))

    def expanded(self, value: str) -> str:
        """Return a value with `~` and variables put in, as Python's `expanduser` and `expandvars` do it."""
        if value == "~" or value.startswith("~/"):
            value = self.home + value[1:]

        def put_in(found: re.Match[str]) -> str:
            known = self.get(found[1] or found[2] or "")
            return found[0] if known is None else known

        return re.sub(r"\$(?:\{([^}]*)\}|(\w+))", put_in, value, flags=re.ASCII)
