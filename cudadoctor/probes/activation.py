"""The real activation of an environment, in a child shell: only with `--deep`, for its scripts are run."""

from __future__ import annotations

from collections.abc import Mapping

from cudadoctor.facts import Target
from cudadoctor.host import Host, which

TIMEOUT_S = 20.0
_MARK = "cudadoctor-activated"
# What the scripts print is thrown away; their variables come after a mark, separated by NUL.
_CONDA = 'for file in "$1"/etc/conda/activate.d/*.sh; do [ -f "$file" ] && . "$file"; done'
_VENV = '. "$1/bin/activate"'
_SCRIPT = "{{ {activate}; }} >/dev/null 2>&1 </dev/null; printf '%s\\0' {mark}; exec env -0"


def activated(host: Host, target: Target, before: Mapping[str, str]) -> dict[str, str] | str:
    """Return the variables that activation leaves behind, started from `before`; else why it could not be.

    conda's own part (CONDA_PREFIX, PATH, the variables of its state file) is expected in `before`.
    """
    shell = which(host, "bash", (before.get("PATH") or "").split(":"))
    if not shell:
        return "no bash on PATH"
    activate = _CONDA if target.kind in ("conda", "pixi") else _VENV
    script = _SCRIPT.format(activate=activate, mark=_MARK)
    ran = host.run([shell, "--norc", "-c", script, "bash", target.prefix], before, timeout_s=TIMEOUT_S)
    if ran.timed_out:
        return f"did not end within {TIMEOUT_S:g} s"
    _, mark, rest = ran.stdout.partition(f"{_MARK}\0")
    if not mark:
        return ran.problem or f"its scripts end the shell (exit status {ran.status})"
    pairs = (entry.partition("=") for entry in rest.split("\0") if "=" in entry)
    return {name: value for name, _, value in pairs}
