"""Makes any string safe to print: what a terminal would obey is shown instead of sent."""

from __future__ import annotations

import re

# Control characters, the bidirectional and invisible ones, and lone surrogates of names that are no UTF-8.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]")
#: What the log of a CI system obeys wherever it stands in a line: ##[error], ##vso[task.complete ...
_COMMAND = re.compile(r"#(?=#\w*\[)")


def visible(text: str) -> str:
    """Return `text` with every character that a terminal or a CI system's log would obey written out."""
    if "##" in text:
        text = _COMMAND.sub(r"\\x23", text)
    return _UNSAFE.sub(_escape, text)


def escaped(json: str) -> str:
    """Return JSON that means the same, with no character in it that a terminal would obey."""
    return _UNSAFE.sub(lambda match: f"\\u{ord(match[0]):04x}", json)


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    named = {"\n": "\\n", "\t": "\\t", "\r": "\\r"}.get(match[0])
    return named or (f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}")
