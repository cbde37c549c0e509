"""Takes from a line of a log what others have put before it: containers, times, ranks, levels, boxes.

Prefixes nest in any order, so they are taken off one by one until none is left. What is left is the line as
the program that complains has printed it.
"""

from __future__ import annotations

import re

#: Longest part of a line that is looked at, around what was found in it, in bytes.
WINDOW = 4096

_COLOUR = re.compile(
    r"\x1b(?:\[[0-9;?]*[ -/]*[@-~]|\][^\x07\x1b]{0,200}(?:\x07|\x1b\\)|[@-Z\\-_])|\[(?:\d{1,3};?){1,6}m"
)
#: Where one line holds several: a progress bar that is drawn over, or a text inside JSON.
_BREAK = re.compile(r"\r+|(?<!\\)\\n")
_DATE = r"\d{4}[-/]\d{2}[-/]\d{2}[T ]\d{2}:\d{2}:\d{2}(?:[.,]\d+)?(?:Z|[+-]\d{2}:?\d{2}(?!\d))?"
_TIME = r"\d{2}:\d{2}:\d{2}(?:[.,]\d+)?"
_MONTH = r"(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)"
_LEVEL = r"(?:TRACE|DEBUG|INFO|NOTICE|WARN|WARNING|ERROR|CRITICAL|FATAL)"
#: One prefix each, as its program writes it.
_PREFIXES = (
    # SGLang: [2026-01-22 20:00:36 DP0 TP1]
    rf"\[{_DATE}(?:\s(?:DP|TP|PP|EP|ATTN_TP|MOE_EP)\d+)+\]",
    # The log of a job of GitHub, as gh prints it: job, step, date
    rf"[^\t]{{1,80}}\t[^\t]{{1,80}}\t\ufeff?(?={_DATE}\s)",
    # GitLab, behind its date: 00O, 01E+
    r"\d\d[OE][+ ]",
    r"_bk;t=\d+\x07",  # Buildkite
    # journald's long dates: 2026-01-22T20:00:36+0000 host program[12]:
    rf"{_DATE}\s+[\w.-]+\s+[\w./@-]+\[\d+\]:",
    # A date, and what containerd, loguru or Python's logging put behind it.
    rf"\[?{_DATE}\]?(?:\s+\[?\d+\]?(?=\s))?(?:\s+(?:stdout|stderr)\s[FP](?=\s))?"
    rf"(?:\s*\|\s*{_LEVEL}\s*\|[^|]{{0,120}}?\s-(?=\s))?(?:\s+-)?(?=[\s:|\[({{]|$):{{0,2}}",
    # syslog and journald: Nov 28 17:40:08 host program[12]:
    rf"{_MONTH}\s+\d{{1,2}}\s+{_TIME}\s+[\w.-]+\s+[\w./@-]+(?:\[\d+\])?:",
    rf"\[?{_TIME}\]?(?=\s)",
    # Ray: (raylet), (pid=123, ip=10.0.0.1)
    r"\((?:raylet(?:, ip=[\w.:-]+)?|pid=\d+(?:, ip=[\w.:-]+)?)\)(?=\s)",
    # vLLM and Ray: (EngineCore pid=12), (VllmWorker rank=5 pid=9), (RayWorkerWrapper pid=7, ip=10.0.0.1)
    r"\([A-Za-z_][\w.<>-]*(?:\s+(?:rank|ip|node)=?[\w.:-]+,?)*\s+pid=\d+[^()]{0,80}\)",
    # torchrun: [default0]:
    r"\[default\d+\]:",
    # torchrun, and the log of torch's C++: [rank0]:[W515 07:10:42.8 ProcessGroupNCCL.cpp:1117]
    r"\[[A-Za-z]*rank[ _]?\d+\]:?",
    r"\[[EWIF]\d{3,4}\s[^\]]{0,120}\]",
    r"\[\d+,\d+\]<std(?:out|err)>:",
    r"\[(?:pod|container)/[^\]\s]+\]",
    # vLLM and glog: ERROR 03-02 19:50:00 [core.py:708], I1128 17:40:08.7 1737 nvc_info.c:176]
    rf"(?:{_LEVEL}|[EWIFC])\s?\d{{2,4}}-?\d{{2}}\s+{_TIME}\s+(?:\d+\s+)?\[?[\w./\\<>-]+:\d+\]?",
    r"(?:DEBUG|TRACE)(?=\s)",
    rf"{_LEVEL}:[\w.]{{1,60}}:",
    rf"-\s{_LEVEL}\s-",
    rf"(?:\[TensorRT-LLM\])?\[{_LEVEL}\]:?(?=\s)",
    rf"::\[[^\]]{{1,40}}\]::{_LEVEL}\s-->",
    r"\[\d+/\d+\](?=\s+\[)",
    # BuildKit: #12 34.5, GitHub: ##[error]
    r"\#\d{1,4}\s\d+\.\d+(?=\s)",
    r"\#\#\[\w+\]",
    # docker compose: vllm-1  |
    r"\w[\w.-]{0,60}\s{0,30}\|(?=\s|$)",
    r"\[(?:std(?:out|err)|/bin/sh)\]:?",
    r'\{"log":"',  # docker's own files
    r"E(?=\s{3,}\S)",  # pytest
    r"[│┃║╭╰├╮╯─━▶×>|]+(?=\s|$)",  # boxes of pip, uv and rich
)
_PREFIX = re.compile(rf"\s*(?:{'|'.join(_PREFIXES)})")
_MOST = 24  #: prefixes of one line


def clean(raw: bytes, at: int) -> str:
    """Return the part of a line that holds the byte `at`, as the program printed it.

    Bytes that are no UTF-8 become U+FFFD.
    """
    start, end = max(0, at - WINDOW), at + WINDOW
    text = raw[start:end].decode("utf-8", "replace")
    offset = len(raw[start:at].decode("utf-8", "replace"))
    text = _piece(text, offset)
    text = _COLOUR.sub("", text)
    if '\\"' in text:
        text = text.replace('\\"', '"')
    return bare(text)


def bare(text: str) -> str:
    """Return a line without its prefixes."""
    at = 0
    for _ in range(_MOST):
        found = _PREFIX.match(text, at)
        if found is None or found.end() == at:
            break
        at = found.end()
    return text[at:].strip()


def excerpt(text: str, needle: str, most: int = 320) -> str:
    """Return at most about `most` characters of a line, with what was found in it in view."""
    if len(text) <= most:
        return text
    at = max(0, text.find(needle))
    start = max(0, at - most // 4)
    # A word is not cut in two where the next blank is near.
    if start and (blank := text.find(" ", start, at)) > 0:
        start = blank + 1
    end = start + most
    return ("... " if start else "") + text[start:end].strip() + (" ..." if end < len(text) else "")


def _piece(text: str, offset: int) -> str:
    """Return what stands between two breaks around `offset`."""
    start = 0
    for found in _BREAK.finditer(text):
        if found.start() >= offset:
            return text[start : found.start()]
        start = found.end()
    return text[start:]
