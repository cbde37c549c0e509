"""What earlier repairs left in the environment: runs that were interrupted, exports that a shell lacks."""

from __future__ import annotations

from cudadoctor.facts import OpenRun, Repairs, Target
from cudadoctor.host import Host
from cudadoctor.places import folders

_NEWEST = 20  #: journals that are read: an interrupted run is one of the last


def probe(host: Host, target: Target) -> Repairs:
    """Return what the journals tell, and which exports of ours the current variables do not have."""
    prefix = host.realpath(target.prefix)
    places = [folder for folder in folders(host, prefix) if host.kind(f"{folder}/journal") == "directory"]
    if not places:
        return Repairs()
    from cudadoctor.journal import Run, Unreadable, read_runs

    runs, problem = [], ""
    for folder in places:
        try:
            found = read_runs(host, folder, _NEWEST)
        except OSError as error:
            problem = f"{error.filename}: {error.strerror}"
            continue
        # What was done to the environment that this one is a copy of is none of its own.
        runs += [(folder, run) for run in found if isinstance(run, Run) and run.begin.prefix == prefix]
        for damaged in found:
            if isinstance(damaged, Unreadable) and not damaged.denied:  # another user's is that user's
                problem = f"{damaged.path}: {damaged.why}"
    left = tuple(
        OpenRun(run.name, run.status, run.path, host.locked(f"{folder}/lock"))
        for folder, run in runs
        if run.is_open
    )
    pending, source = _pending(host, target) if target.active else ((), "")
    return Repairs(len(runs), left, problem, pending, source)


def _pending(host: Host, target: Target) -> tuple[tuple[str, ...], str]:
    """Return the variables that our activation file would change now, and that file.

    The environment is spelled as activation spells it, for the values name it so.
    """
    from cudadoctor.exports import Edited, NoActivation, outcome, persisted, script

    def read(path: str) -> bytes | None:
        try:
            return host.read(path)
        except OSError:
            return None

    prefix = target.prefix
    try:
        exports = persisted(target.kind, prefix, read)
    except NoActivation:
        return (), ""
    if isinstance(exports, Edited):
        return (), ""
    wanted = outcome(exports, host.environ, prefix)
    pending = tuple(name for name, value in wanted.items() if host.environ.get(name) != value)
    return pending, script(target.kind, prefix)
