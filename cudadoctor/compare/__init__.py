"""What differs between two looks at machines, ranked by what the failing checks depend on.

Pure: facts and outcomes go in, a `Difference` comes out.
"""

from __future__ import annotations

from cudadoctor.compare.comparing import compare
from cudadoctor.compare.model import (
    IDLE,
    NAMED,
    NEEDED,
    OPEN,
    SCHEMA_VERSION,
    Difference,
    Different,
    Seen,
    Side,
    Turned,
    Unseen,
)

__all__ = [
    "IDLE",
    "NAMED",
    "NEEDED",
    "OPEN",
    "SCHEMA_VERSION",
    "Difference",
    "Different",
    "Seen",
    "Side",
    "Turned",
    "Unseen",
    "compare",
]
