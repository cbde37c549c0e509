"""Settings that are no TOML, no settings of ours, or nearly."""

from __future__ import annotations

import json
import os
import tempfile
from typing import Any

from hypothesis import strategies as st

from benchmarks.fuzz import odd, reports, shapes
from benchmarks.fuzz.running import Reader, Trouble
from cudadoctor.config import LEVELS, load_config
from cudadoctor.mistakes import UserMistake
from cudadoctor.registry import load

_KEYS = ("fail-on", "ignore", "suppress", "fail_on", "Ignore", "tool", "cudadoctor", "")
_NAMES = ("cuda-home-wrong", "nvcc-missing", "cuda_home_wrong", "shm-too-small", "no-such-check")
_ODD = (
    "1979-05-27T07:32:00Z", "07:32:00", "9" * 5000, "1e400", "0xdead_beef", "nan", "-inf", "'''", '"""',
    "[" * 5000,
    "{" * 5000, "[[tool.cudadoctor]]", "[tool.cudadoctor]", "a.b.c = 1", "a = {b = {c = 1}}", "\ufeff",
    "\x00", "\r",
    "# comment", "= 1", "a = ", '"\\ud800" = 1', "a = 1\na = 2", "[suppress]\n[suppress]",
    ".".join("a" * 5000) + " = 1",
)  # fmt: skip


def read(case: tuple[str, bytes]) -> bool:
    """Read a file of settings by its name; return whether it was taken."""
    name, data = case
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/{name}"
        with open(path, "wb") as stream:
            stream.write(data)
        taken = _taken(path)
        before = os.getcwd()
        os.chdir(folder)
        try:
            if _taken("") != taken and not (name == "pyproject.toml" and b"[tool.cudadoctor" not in data):
                raise Trouble("a file that is found is read otherwise than one that is named")
        finally:
            os.chdir(before)
    return taken


def _taken(path: str) -> bool:
    try:
        config = load_config(path, False, load(launch=False))
    except UserMistake as mistake:
        reports.one_line(str(mistake))
        return False
    if config.fail_on not in LEVELS:
        raise Trouble("a level that is none is taken", config.fail_on)
    return True


def readers() -> list[Reader]:
    """Return the readers of settings."""
    name = odd.among(("cudadoctor.toml", "pyproject.toml"))
    return [
        Reader("settings: any bytes", st.tuples(name, st.binary(max_size=200)), read, None, 1),
        Reader("settings: TOML", _files(), read, None, 5),
    ]


@st.composite
def _files(draw: st.DrawFn) -> tuple[str, bytes]:
    """Give lines of TOML, right and wrong, below our table or another."""
    name = draw(odd.among(("cudadoctor.toml", "pyproject.toml")))
    head = "[tool.cudadoctor]\n" if name == "pyproject.toml" else ""
    if not draw(st.integers(0, 7)):
        head = draw(
            odd.among(
                ("", "[tool]\ncudadoctor = 1\n", "tool = 1\n", "[tool.other]\n", "[[tool.cudadoctor]]\n")
            )
        )
    data = (head + "\n".join(draw(st.lists(_lines(), max_size=6)))).encode("utf-8", "surrogatepass")
    return name, shapes.spoiled(draw, data) if not draw(st.integers(0, 5)) else data


def _lines() -> st.SearchStrategy[str]:
    right = st.one_of(
        odd.among(LEVELS).map('fail-on = "{}"'.format),
        st.lists(odd.among(_NAMES), max_size=3).map(lambda names: f"ignore = {json.dumps(names)}"),
        odd.among(_NAMES).map('suppress.{} = "accepted"'.format),
        odd.among(_NAMES).map('[suppress]\n{} = " "'.format),
    )
    keys = st.one_of(odd.among(_KEYS), odd.among(_NAMES), odd.texts().map(_quoted))
    wrong = st.tuples(keys, _values()).map(lambda pair: f"{pair[0]} = {pair[1]}")
    return st.one_of(right, right, wrong, odd.among(_ODD))


def _values() -> st.SearchStrategy[str]:
    """Return values of every type that TOML has."""
    leaf: st.SearchStrategy[Any] = st.one_of(
        odd.texts().map(_quoted), odd.numbers().map(str), odd.among(("true", "false")), odd.among(_ODD)
    )
    return st.recursive(
        leaf,
        lambda held: st.one_of(
            st.lists(held, max_size=3).map(lambda items: f"[{', '.join(items)}]"),
            st.lists(st.tuples(odd.among(_KEYS[:4]), held), max_size=2).map(
                lambda pairs: "{" + ", ".join(f"{key} = {value}" for key, value in pairs) + "}"
            ),
        ),
        max_leaves=6,
    )


def _quoted(text: str) -> str:
    return json.dumps(text)
