"""Names the cause in a log: rows that know programs' own messages, a scanner, the choice of the root."""

from cudadoctor.explain.model import Explanation, Here, Kind, Seen, Signature

__all__ = ["Explanation", "Here", "Kind", "Seen", "Signature"]
