"""The kinds of change there are: a closed set of plain data, so that a journal can be undone when whoever
asked for a change is gone.

A fix asks for actions. `Export` is carried out as one or more `WriteFile` (see `exports`), every other one as
it stands. Paths are absolute; text in `{prefix}` form stands for the environment's own folder.
"""

from __future__ import annotations

from enum import Enum

from msgspec import Struct


class Safety(Enum):
    """What an action needs before it is carried out."""

    SAFE = "safe"  #: --apply
    UNSAFE = "unsafe"  #: --apply --unsafe
    MANUAL = "manual"  #: is shown, and never carried out


class Export(Struct, frozen=True, tag_field="kind", tag="export", omit_defaults=True):
    """A variable as it shall be after activation.

    With `add` or `remove` it is a list of folders: those entries are put behind what is there or taken out,
    and empty entries always are. Else `value` is the whole value, and "" unsets the variable.
    """

    name: str
    value: str = ""
    add: tuple[str, ...] = ()
    remove: tuple[str, ...] = ()

    @property
    def is_list(self) -> bool:
        """Return whether entries of a list are changed, not the whole value."""
        return bool(self.add or self.remove)


FOLDER_MODE = 0o755


class MakeFolder(Struct, frozen=True, tag_field="kind", tag="folder"):
    """A new folder of mode FOLDER_MODE, where nothing stands."""

    path: str


class MakeLink(Struct, frozen=True, tag_field="kind", tag="link"):
    """A new symbolic link, where nothing stands; a folder that is missing above it is a step of its own."""

    path: str
    text: str


class TurnLink(Struct, frozen=True, tag_field="kind", tag="turn"):
    """A symbolic link that shall lead elsewhere."""

    path: str
    text: str
    before: str  #: the text it has


class RemoveLink(Struct, frozen=True, tag_field="kind", tag="unlink"):
    """A symbolic link that shall go."""

    path: str
    before: str  #: the text it has


class Was(Struct, frozen=True):
    """A regular file as it was: enough to put it back."""

    content: bytes
    mode: int  #: permission bits
    mtime_ns: int


class WriteFile(Struct, frozen=True, tag_field="kind", tag="write"):
    """A regular file with this content: new, or in the place of what was there."""

    path: str
    content: bytes
    mode: int = 0o644
    before: Was | None = None


class MoveAside(Struct, frozen=True, tag_field="kind", tag="aside"):
    """A file or folder that gets another name in the same folder: instant, and as easily taken back."""

    path: str
    aside: str = ""  #: the new name; chosen when the plan is made


class Version(Struct, frozen=True):
    """One installed package, exactly: what an undo has to bring back."""

    name: str
    version: str
    build: str = ""  #: conda's build string
    source: str = ""  #: the URL or folder it was installed from, where no index has it


class Install(Struct, frozen=True, tag_field="kind", tag="install"):
    """Packages that an installer of the environment's own kind shall bring."""

    tool: str  #: conda, uv or pip
    packages: tuple[str, ...]  #: as the installer takes them: "ninja", "cuda-cudart-dev=12.8"
    argv: tuple[str, ...] = ()  #: the whole command; chosen when the plan is made
    before: tuple[Version, ...] = ()  #: everything that is installed, when the plan is made


class InstallerError(Exception):
    """What an installer said when it failed."""


class Show(Struct, frozen=True, tag_field="kind", tag="show"):
    """What only the user can do: the exact command for this machine, or what to get."""

    text: str


Action = Export | MakeFolder | MakeLink | TurnLink | RemoveLink | WriteFile | MoveAside | Install | Show
#: What is carried out, journaled and undone.
Step = MakeFolder | MakeLink | TurnLink | RemoveLink | WriteFile | MoveAside | Install
