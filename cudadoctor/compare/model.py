"""What is said of two looks: `Difference`, whose JSON Schema is published."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from cudadoctor.facts import Facts
from cudadoctor.outcomes import Outcome

SCHEMA_VERSION = 1
NAMED, NEEDED, OPEN, IDLE = 1, 2, 3, 4  #: the ranks of a difference, in the order in which they are told

Ended = Literal["passed", "failed", "skipped", "inconclusive", "crashed"]


class Seen(Struct, frozen=True):
    """One look: facts without secrets, and how today's checks judge them."""

    name: str  #: the file, or "this machine"
    facts: Facts
    outcomes: tuple[Outcome, ...]
    #: the same with the paths as they are, for commands, where it is this machine that was looked at; of
    #: another one nothing is known but masked paths, and its commands are for who is in its environment
    real: Facts | None = None


class Side(Struct, frozen=True):
    """One of the two that were compared, in a few words; a field is "" where it is not known."""

    name: str  #: the file, or "this machine"
    prefix: str = ""
    kind: str = ""  #: venv, conda, ...
    python: str = ""  #: its version
    stack: tuple[str, ...] = ()  #: torch, vLLM and FlashInfer with their versions


class Turned(Struct, frozen=True):
    """A check that ended otherwise in B than in A."""

    check: str
    first: Ended
    second: Ended
    severity: str = ""  #: of what was found, where it was: error, warning, note
    summaries: tuple[str, ...] = ()  #: of what was found on the side where it fails, in B where in both
    fix: str = ""  #: the command that plans the repair of B, where there is a repair
    reason: str = ""  #: why there is no verdict on one side
    counts: bool = True  #: False: one side has not looked at what this check needs, so nothing has changed


class Different(Struct, frozen=True):
    """One fact that is not the same in both."""

    #: 1: what a check that fails on one side only (`Difference.basis`) names in its evidence; 2: what else
    #: such a check looks at; 3: what another failing check looks at; 4: what no failing check looks at
    rank: int
    section: str  #: of the facts
    what: str  #: in the field's words: "torch", "CUDA_HOME", "libcudart.so in /usr/local/cuda/lib64"
    first: str
    second: str
    only: Literal["", "A", "B"] = ""  #: where it is at all, if it is on one side only
    checks: tuple[str, ...] = ()  #: those that name it (rank 1) or look at it
    group: str = ""  #: what it is one of: packages
    item: str = ""  #: what it is called in a list of its group: "/usr/local/cuda/bin"
    command: str = ""  #: what gives B what A has; "" where no command does, or none is known


class Unseen(Struct, frozen=True):
    """A section that only one of the two has."""

    section: str
    side: Literal["A", "B"]  #: the one that lacks it
    reason: str


class Difference(Struct, frozen=True):
    """How two looks differ. Fields may be added; a rename takes a new `schema_version`."""

    first: Side
    second: Side
    checks: tuple[Turned, ...] = ()  #: what fails in B only comes first
    failing: tuple[str, ...] = ()  #: the checks that fail in both
    differences: tuple[Different, ...] = ()  #: by rank
    unseen: tuple[Unseen, ...] = ()
    compared: int = 0  #: facts that both have, or one has and the other lacks
    basis: Literal["", "A", "B"] = ""  #: the side whose failures the ranks 1 and 2 are about; "": neither
    schema_version: int = SCHEMA_VERSION

    @property
    def same(self) -> bool:
        """Return whether nothing is different, as far as both were looked at."""
        return not self.differences and not any(turned.counts for turned in self.checks)
