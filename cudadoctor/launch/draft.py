"""What is known of a launch while its wrappers are being taken off, outermost first."""

from __future__ import annotations

import copy
import shlex
from typing import TYPE_CHECKING

from cudadoctor.facts import Variable
from cudadoctor.facts.launch import Container, Kind, Launch, Note
from cudadoctor.host import Host
from cudadoctor.launch.texts import COMMAND_LINE, Word, texts

if TYPE_CHECKING:
    from cudadoctor.launch.options import Options

_DEEPEST = 8  #: scripts that start scripts


class Draft:
    """What the wrappers of one command have said so far.

    `options` are those of the installed vLLM. A launch into a container is not judged by them, for the
    image has a vLLM of its own: they only tell there which options take a value.
    """

    def __init__(self, host: Host, source: str = COMMAND_LINE, options: Options | None = None) -> None:
        self.host, self.source, self.options = host, source, options
        self.variables: dict[str, Variable] = {}
        self.nearby: dict[str, Variable] = {}
        self.unset: dict[str, None] = {}
        self.clean = False
        self.folder = ""
        self.activated = ""
        self.container: Container | None = None
        self.wrappers: list[str] = []
        self.notes: list[Note] = []
        self.depth = 0
        self.config = ""  #: the file given by --config
        self.partial = ""  #: why there may be more options than are known
        self.doubtful: dict[str, str] = {}  #: variables that are set to what is not known

    def copied(self) -> Draft:
        """Return a draft that can go its own way."""
        other = copy.copy(self)
        other.variables, other.unset = dict(self.variables), dict(self.unset)
        other.wrappers, other.notes = list(self.wrappers), list(self.notes)
        other.doubtful = dict(self.doubtful)
        return other

    def note(self, text: str, origin: str = "", name: str = "") -> None:
        """Say something about how the launch was read, once."""
        note = Note(text, origin, name)
        if note not in self.notes:
            self.notes.append(note)

    def passed(self, words: list[Word]) -> None:
        """Note the wrapper made of these words."""
        self.wrappers.append(shlex.join(texts(words)))

    def assign(self, name: str, value: str, origin: str) -> None:
        """Set a variable for the command."""
        self.variables[name] = Variable(value, origin)
        self.unset.pop(name, None)
        self.doubtful.pop(name, None)

    def doubt(self, name: str, reason: str, origin: str) -> None:
        """Set a variable to what is not known."""
        self.variables.pop(name, None)
        self.unset.pop(name, None)
        self.doubtful[name] = reason
        self.note(reason, origin, "value-unknown")

    def forget(self, name: str) -> None:
        """Take a variable out of the command's environment."""
        self.variables.pop(name, None)
        self.doubtful.pop(name, None)
        if not self.clean:
            self.unset[name] = None

    def inherited(self, name: str) -> str | None:
        """Return what the command would find in a variable, or None; a container has none of the host's."""
        if name in self.variables:
            return self.variables[name].value
        if self.clean or self.container is not None or name in self.unset:
            return None
        return self.host.environ.get(name)

    def into(self, folder: str) -> None:
        """Change to a folder, from where the command would run so far."""
        self.folder = folder if folder.startswith("/") or not self.folder else f"{self.folder}/{folder}"

    def path(self, name: str) -> str:
        """Return a file's path as the command means it."""
        return name if name.startswith("/") or not self.folder else f"{self.folder}/{name}"

    def deeper(self, what: str, origin: str) -> bool:
        """Enter a script; return False, with a note, where scripts start scripts without end."""
        self.depth += 1
        if self.depth > _DEEPEST:
            self.note(f"{what} is not followed: more than {_DEEPEST} scripts inside each other", origin)
        return self.depth <= _DEEPEST

    def launch(self, kind: Kind, words: list[Word]) -> Launch:
        """Return the launch of a program that has no options to be looked at."""
        return Launch(
            kind,
            texts(words),
            self.source,
            {},
            self.variables,
            self.nearby,
            unset=tuple(self.unset),
            clean=self.clean,
            folder=self.folder,
            activated=self.activated,
            image=self.container.image if self.container else "",
            container=self.container,
            wrappers=tuple(self.wrappers),
            notes=tuple(self.notes),
            partial=self.partial,
            doubtful=self.doubtful,
        )

    def other(self, words: list[Word], reason: str = "") -> Launch:
        """Return the launch of something that is not known here, with the reason where there is one."""
        if reason:
            self.note(reason, words[0].origin if words else "", "not-followed")
        return self.launch("other", words)
