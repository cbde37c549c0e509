"""What a run in GitHub Actions leaves there: annotations in the log, the report in the step's summary."""

from __future__ import annotations

import os
import stat
import sys

from cudadoctor.findings import Severity
from cudadoctor.report import Report

SUMMARY = "GITHUB_STEP_SUMMARY"
LIMIT_BYTES = 1 << 20  #: of one step's summary; the runner takes no larger one
_CUT = "\n- ... the rest is in the log of this step: a summary has no room for it\n"


def tell(report: Report, fail_on: Severity | None, started_in: str) -> None:
    """Annotate the run and add to its summary; outside of GitHub Actions nothing.

    The report is a redacted one. A summary that cannot be written is said on stderr; no exit code changes.
    """
    if os.environ.get("GITHUB_ACTIONS") != "true":
        return
    from cudadoctor.render import annotations

    sys.stdout.write(annotations.render(report, fail_on, started_in))
    if file := os.environ.get(SUMMARY):
        try:
            _append(file, report)
        except (OSError, ValueError) as error:
            _complain(
                f"{SUMMARY}: {file}: {getattr(error, 'strerror', None) or error}: no summary is written"
            )


def _append(file: str, report: Report) -> None:
    """Add the report to the file that the runner names; raise OSError or ValueError where that cannot be."""
    from cudadoctor.render import markdown

    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    with open(os.open(file, flags, 0o666), "ab", buffering=0) as stream:
        there = os.fstat(stream.fileno())
        if not stat.S_ISREG(there.st_mode):
            raise ValueError("not a regular file")
        stream.write(_fitting(f"{markdown.render(report)}\n", LIMIT_BYTES - there.st_size))


def _fitting(text: str, room: int) -> bytes:
    """Return a report in Markdown as UTF-8 of at most `room` bytes, cut at a line's end and closed."""
    whole = text.encode("utf-8", "backslashreplace")
    if len(whole) <= room:
        return whole
    end = "\n</details>\n"
    kept = whole[: max(room - len(_CUT) - len(end), 0)].rpartition(b"\n")[0]
    if not kept:
        raise ValueError(f"the summary of this step has no room left in {LIMIT_BYTES >> 20} MiB")
    lines = kept.split(b"\n")
    open_ = lines.count(b"<details>") > lines.count(b"</details>")
    return kept + (_CUT + (end if open_ else "")).encode()


def _complain(message: str) -> None:
    from cudadoctor.redact import Redactor
    from cudadoctor.show import visible

    print(f"cudadoctor: {visible(Redactor(os.path.expanduser('~')).text(message))}", file=sys.stderr)
