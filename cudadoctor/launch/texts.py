"""Words with the place that they come from, and texts that are safe to read."""

from __future__ import annotations

from msgspec import Struct

from cudadoctor.host import Host, TooLarge
from cudadoctor.mistakes import UserMistake

TEXT_LIMIT_BYTES = 1 << 20
COMMAND_LINE = "command line"
CALLERS = "the arguments of the script are known only when it runs"


class LaunchUnreadable(UserMistake):
    """The line to print: which text cannot be read, where in it, and why."""


class Word(Struct, frozen=True, omit_defaults=True):
    """One argument, and where it is written."""

    text: str
    origin: str = COMMAND_LINE
    reason: str = ""  #: why the text is not what the program will see: "$(hostname) is known only ..."
    many: bool = False  #: what is not known stands without quotes: it may be no word, or several
    prefix: str = ""  #: what a text that is not known begins with in any case

    def with_text(self, text: str) -> Word:
        """Return another text from the same place."""
        return Word(text, self.origin, self.reason, self.many)


def place(source: str, line: int) -> str:
    """Return "file:line"; a text on the command line has no lines worth telling."""
    return source if source == COMMAND_LINE else f"{source}:{line}"


def texts(words: list[Word]) -> tuple[str, ...]:
    """Return the texts of the words."""
    return tuple(word.text for word in words)


def whole(host: Host, path: str, limit_bytes: int = TEXT_LIMIT_BYTES) -> str:
    """Return a text file without its byte order mark and carriage returns; raise LaunchUnreadable."""
    try:
        data = host.read(path, limit_bytes)
    except TooLarge:
        raise LaunchUnreadable(
            f"{path}: larger than {limit_bytes >> 10} KiB, which no launch file is"
        ) from None
    except OSError as error:
        raise LaunchUnreadable(f"{path}: {error.strerror or error}") from None
    if (at := data.find(b"\0")) >= 0:
        line = data.count(b"\n", 0, at) + 1
        raise LaunchUnreadable(f"{path}:{line}: holds a NUL byte: this is no text")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise LaunchUnreadable(f"{path}:{line}: this is no UTF-8 text") from None
    return text.replace("\r\n", "\n")


def beside(path: str, name: str) -> str:
    """Return `name` as it is meant in a file at `path`: relative to that file's folder."""
    if name.startswith("/"):
        return name
    folder = path.rpartition("/")[0]
    name = name.removeprefix("./")
    return f"{folder}/{name}" if folder else name
