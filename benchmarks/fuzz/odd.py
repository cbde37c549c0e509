"""Strings and numbers that programs trip over, and those that a terminal, a forge or a CI system obeys."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from hypothesis import strategies as st
from msgspec import Raw

T = TypeVar("T")

STRINGS: tuple[str, ...] = (
    "", " ", "\0", "a\0b", "\n", "\r", "\t", "a\r\nb", "\x7f", "\x85", "\u2028", "\ufeff", "\u200b",
    # what a terminal obeys
    "\x1b[2J", "\x1b]0;owned\x07", "\x9b31m", "\u202emoc.live", "\u2066", "a\rb", "\x08\x08\x08",
    # Markdown, HTML, XML
    "`", "```", "``` `` `", "~~~", "*", "_a_", "[x](http://x.invalid)", "![](http://x.invalid/a.png)",
    "| a | b |",
    "# a", "- a", "> a", "<b>", "<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "</details>",
    "<!--",
    "]]>", "<![CDATA[", "&lt;", "<?xml?>", "http://x.invalid/", "www.x.invalid", "@everyone", "#1",
    "a\n\n# b",
    # what the log of a CI system obeys
    "##[error]x", "::error::x", "::set-output name=a::b", "##vso[task.complete result=Failed;]",
    "::stop-commands::x",
    # what a shell or a formatter obeys
    "$HOME", "$(id)", "`id`", "${", "${A:-", "%s", "%(a)s", "{}", "{0.__class__}", "{a!r:>9999}", "'", '"',
    "\\", "\\x",
    ";", "&", "|", "a b", "-", "--", "-L", "-o", "=", "a=b", ":", "::", ",", ".", "..", "~", "~root", "*",
    "?", "[", "]",
    "[!", "(", ")", "{", "}", "(?:", "\\1", "+", "^", "$",
    # paths
    "/", "//", "/..", "../..", "/a/../b", "./a", "/dev/stdin", "/proc/self/mem", "/a" * 2000, "a/" * 40,
    "file:///etc",
    # numbers and versions that are none, or that are more than they seem
    "0", "-1", "-0", "00", "1e400", "nan", "inf", "0x10", "1_000", "\u0663", "\u00b2", "\u00bd",
    "\uff11\uff12.\uff18",
    "9" * 5000, "1." * 3000, "1" * 400 + ".0", "12.8", "13", "13.", ".13", "12.x", "v12", "12.8.0.0.0.0",
    "1!2.0",
    "1.0+cu", "1.0+cu128", "2.9.0+cu999999999", "2.9.0.dev20260101", "1.0a1.post2.dev3+x.y", "sm_", "sm_90a",
    "9.0", "999.999",
    # letters whose length or case is not what it seems
    "\u0130", "\u00df", "\ufb01", "e\u0301", "\U0001f600", "\U0010ffff", "日本語", "ﷺ",
    # long ones
    "x" * 10_000, " " * 10_000, "\\" * 5_000, "a:" * 5_000, "(" * 3_000, "<" * 5_000, "`" * 5_000,
    "\x1b" * 5_000,
)  # fmt: skip

#: Parts of words that readers look for.
WORDS: tuple[str, ...] = (
    "torch", "vllm", "flashinfer-python", "triton", "nvidia-cuda-nvcc-cu12", "cuda-toolkit", "numpy",
    "/usr/local/cuda", "/usr/local/cuda-12.8/lib64", "/opt/env/lib/python3.12/site-packages",
    "/home/ada/.cache",
    "libcudart.so", "libcudart.so.12", "libcuda.so.1", "CUDA_HOME", "LD_LIBRARY_PATH", "PATH", "CC", "TMPDIR",
    "/home/ada", "/root", "2.9.0+cu128", "12.8.93", "13.0", "570.86.15", "8.6", "9.0", "10.0", "gcc", "clang",
    "command line", "environment", "True", "False", "None", "auto", "fp8", "awq", "torch>=2.9",
    "torch==2.9.0",
    "HF_TOKEN=hf_abcdefghijklmnopqrstuvwxyz012345", "https://ada:pw@host.invalid/simple", "10.0.0.1:8000",
    "GPU-0a2b3c4d", "0,1", "all", "1g", "64m", "8000:8000", "Qwen/Qwen2.5-7B", "config.json",
)  # fmt: skip

NUMBERS: tuple[int | float, ...] = (
    0, 1, -1, 2, 3, 7, 127, 255, 256, 4095, 65535, 65536, 2**31 - 1, 2**31, 2**53, 2**63 - 1, -(2**63),
    2**64 - 1,
    1 << 30, 24 << 30, 80 << 30, 0.5, -0.5, 0.9, 1e308, -1e308, 1e-320, -0.0, 1e15,
)  # fmt: skip

#: What is JSON, or nearly, and no value that Python's own encoder would write.
RAW: tuple[Raw, ...] = tuple(
    Raw(text)
    for text in (
        b"1e400", b"-1e400", b"1e-400", b"1" + b"0" * 400, b"-1" + b"0" * 30, b"1" + b"0" * 5000,
        b"18446744073709551616",
        b"0." + b"1" * 5000, b"NaN", b"Infinity", b"-", b"01", b"1.", b"tru", b'"\\ud800"', b'"\\udcff"',
        b'"a\\ud83d"',
        b'"\\u0000"', b'"\xff"', b'"\xed\xa0\x80"', b'"\x00"', b'"\\x"', b'"', b"{", b"[1,]",
        b'{"a":1,"a":2}',
        b"[" * 900 + b"]" * 900, b"[" * 100_000 + b"]" * 100_000, b'{"a":' * 5000 + b"1" + b"}" * 5000,
        b"[" * 5000,
        b"", b" ", b"//", b"{}", b"[]", b"null", b"true", b'"x"', b"3",
    )
)  # fmt: skip


def among(options: Sequence[T]) -> st.SearchStrategy[T]:
    """Return one of these; `sampled_from` writes them all out wherever a strategy is named."""
    return st.integers(0, len(options) - 1).map(options.__getitem__)


def texts() -> st.SearchStrategy[str]:
    """Return odd strings, words that are looked for, and both together."""
    one = st.one_of(among(STRINGS), among(WORDS), st.text(max_size=12))
    return st.one_of(one, st.lists(one, min_size=2, max_size=4).map("".join))


def numbers() -> st.SearchStrategy[int | float]:
    """Return numbers at the edges of what fits somewhere, and any others."""
    return st.one_of(among(NUMBERS), st.integers(-(2**63), 2**64 - 1), st.integers(0, 200))
