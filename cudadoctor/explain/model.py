"""What the rows of `knowledge/signatures/` say, and what is told of a log."""

from __future__ import annotations

from enum import Enum

from msgspec import Struct, field


class Kind(Enum):
    """What a line that fits a row is in a log."""

    CAUSE = "cause"
    HINT = "hint"  #: a cause too, which gives way to any other: a warning, or a message with many causes
    CONSEQUENCE = "consequence"  #: follows from a cause, or wraps it
    HARMLESS = "harmless"
    SIGN = "sign"  #: only tells other rows what goes on around them


class Signature(Struct, frozen=True, forbid_unknown_fields=True, rename="kebab"):
    """One row: a message of a program, what it means, and who can tell whether it is so on a machine."""

    id: str
    kind: Kind
    find: tuple[str, ...]  #: each line that fits holds one of these, byte for byte
    sample: tuple[str, ...] = ()  #: logs of one line or several; each is explained by this row alone
    title: str = ""  #: what it means; `{name}` stands for a group of `match`
    cause: str = ""  #: the canonical id; "" for a sign or a consequence
    match: str = ""  #: regular expression; searched in the line without its prefixes
    unless: str = ""  #: regular expression; a line in which it is found does not fit
    beside: tuple[str, ...] = ()  #: signs, one of which has to be in the log too
    not_beside: tuple[str, ...] = ()  #: signs, none of which may be
    within: int = 0  #: lines between this one and its signs; 0: anywhere in the log
    last: int = 0  #: lines from the end of the log: what stands before them does not fit; 0: all do
    yields: tuple[str, ...] = ()  #: causes of which this is a consequence, where they are seen too
    checks: tuple[str, ...] = ()  #: what can confirm it, the surest first
    about: tuple[str, ...] = ()  #: what a finding has to name, one of these, to confirm it; `{name}` as above
    unchecked: str = ""  #: why no check can
    remedy: str = ""  #: what helps, where no fix does it
    is_not: str = field(default="", name="not")  #: what it is easily taken for
    source: str = ""  #: the program whose message it is, and where in it that was read


class Here(Struct, frozen=True):
    """Whether a cause is so on the machine, or in the facts, that were looked at."""

    verdict: str  #: "confirmed", "contradicted" or "unknown"
    check: str = ""
    says: str = ""  #: the finding, or why there is no verdict
    evidence: tuple[str, ...] = ()
    fix: str = ""  #: a command, or what to do


class Seen(Struct, frozen=True):
    """A row that fits, at its first line."""

    signature: str
    cause: str
    kind: Kind
    line: int  #: from 1
    text: str  #: the line without its prefixes; cut where it is long
    title: str
    count: int = 1  #: lines that fit; counting stops at some
    around: tuple[str, ...] = ()  #: the log's own lines from before to after it
    here: Here | None = None  #: None: no machine was looked at, or it is no cause
    remedy: str = ""
    is_not: str = field(default="", name="not")
    about: tuple[str, ...] = ()  #: one of these is in every finding that confirms it; (): any finding does


class Explanation(Struct, frozen=True):
    """What a log tells. Fields may be added; a rename takes a new `schema_version`."""

    log: str
    lines: int
    size_bytes: int
    root: Seen | None = None
    others: tuple[Seen, ...] = ()  #: other causes, which may be so as well
    consequences: tuple[Seen, ...] = ()
    harmless: tuple[Seen, ...] = ()
    last_error: str = ""  #: where no cause is known: the last error that is not known to follow from another
    sites: tuple[str, ...] = ()  #: the folders of Python packages that the log names, as far as they are few
    notes: tuple[str, ...] = ()
    schema_version: int = 1
