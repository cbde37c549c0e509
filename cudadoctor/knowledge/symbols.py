"""What the name of a symbol tells: the function it is for, whose it is, and by which C++ ABI.

Names of C++ are those of the Itanium C++ ABI ("Mangling", itanium-cxx-abi.github.io, read 2026-11): only the
words of the qualified name are read, which come first. The new ABI of GCC 5 shows in `__cxx11` and in the tag
`cxx11`; the old one's std::string is `Ss`.
"""

from __future__ import annotations

import re

from cudadoctor.knowledge.wheels import STEMS

_HEAD = re.compile(r"_Z(?:T[VIST]|GV)?(?:N[rVK]*[RO]?)?")
_WORD = re.compile(r"(\d+)")
_TAG = re.compile(r"B(\d+)")
_NEW = re.compile(r"__cxx11|B5cxx11")
_OF_TORCH = ("c10", "at", "torch", "caffe2")
#: torch's stable C interface. It only grows: all 469 names of torch 2.9.0 are in 2.14.1, which has 97 more
#: (the symbol tables of the two wheels, 2026-11-21).
_STABLE = ("aoti_torch_", "torch_")
_PYTHON = re.compile(r"_?Py[A-Z_]")


def function(symbol: str) -> str:
    """Return the qualified name in a C++ symbol, "c10::Error::what"; "" where it is no such name."""
    return "::".join(_split(symbol)[0])


def owner(symbol: str) -> str:
    """Return whose symbol it is: torch, torch-stable, python, a wheel's stem as "cublas", or ""."""
    words = _split(symbol)[0]
    if words:
        return "torch" if words[0] in _OF_TORCH else ""
    if symbol.startswith(_STABLE):
        return "torch-stable"
    if _PYTHON.match(symbol):
        return "python"
    named = symbol.lstrip("_")
    stems = (name for name in STEMS if named.startswith(name.removeprefix("lib")))
    longest = max(stems, key=len, default="")
    return STEMS[longest] if longest else "cuda-runtime" if re.match(r"cuda[A-Z]", named) else ""


def is_new(symbol: str) -> bool:
    """Return whether the name is one of the new C++ ABI; of the old one, or of both, if not."""
    return _NEW.search(symbol) is not None


def other_abi(symbol: str, other: str) -> bool:
    """Return whether two names differ in the C++ ABI, as far as names tell, and are for one function."""
    new, old = (symbol, other) if is_new(symbol) else (other, symbol)
    if is_new(old) or not is_new(new):
        return False
    words, rest = _split(old)
    return words == _split(new)[0] and ("Ss" in rest or rest == _split(new)[1])


def _split(symbol: str) -> tuple[list[str], str]:
    """Return the words of the name without their tags, and what follows them."""
    words: list[str] = []
    if (head := _HEAD.match(symbol)) is None:
        return words, symbol
    at = head.end()
    while found := _WORD.match(symbol, at):
        end = found.end() + int(found[1][:4])
        words.append(symbol[found.end() : end])
        at = end
        while tag := _TAG.match(symbol, at):
            at = tag.end() + int(tag[1][:4])
    return words, symbol[at:]
