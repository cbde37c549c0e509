"""From actions to steps: what a fix asks for, on the ground that there is.

Nothing here looks at what else a plan takes: a caller gives the machine as it is at that point.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterator, Mapping, Sequence

from msgspec import Struct, structs

from cudadoctor.actions import (
    Action,
    Export,
    Install,
    MakeFolder,
    MakeLink,
    MoveAside,
    RemoveLink,
    Step,
    TurnLink,
    WriteFile,
)
from cudadoctor.facts import Caches, Facts, Target
from cudadoctor.ground import Conflict, Ground
from cudadoctor.host import Host
from cudadoctor.report import Report

_ENVIRONMENTS = ("conda", "pixi", "venv", "virtualenv", "uv")


class ByHand(Conflict):
    """A conflict that the user can get around with a command."""

    def __init__(self, why: str, command: str) -> None:
        super().__init__(why)
        self.command = command


class Site(Struct, frozen=True):
    """The machine that a plan is for."""

    host: Host
    ground: Ground
    target: Target
    prefix: str  #: the target's folder with every link resolved
    roots: tuple[str, ...]  #: the folders of the environment; the ground can come to hold caches as well
    look: Callable[[Host], Facts]  #: probe over another host
    judge: Callable[[Facts], Report]
    overlay: Callable[[Host, Mapping[str, str], Sequence[Step]], Host]
    prepare: Callable[[Install, Facts], Install]  #: choose the installer; raises Conflict
    expect: Callable[[Install, Facts], Facts]  #: what the facts would be with the packages, by metadata


def roots_of(target: Target, host: Host) -> tuple[str, ...]:
    """Return the folders of a target that may be changed, with every link resolved.

    Of a Python that is no environment of its own only the folders that pip installs into.
    """
    folders = (target.prefix,) if target.kind in _ENVIRONMENTS else target.site_packages
    return tuple(
        dict.fromkeys(host.realpath(folder) for folder in folders if host.kind(folder) == "directory")
    )


def lowered(site: Site, host: Host, actions: Sequence[Action], facts: Facts) -> Iterator[Step]:
    """Yield the steps of actions but exports, on the ground as `host` has it; raise Conflict."""
    made: set[str] = set()
    for action in actions:
        match action:
            case MakeLink():
                yield from _link(site, host, action, made)
            case TurnLink() | RemoveLink():
                yield from _old_link(site, host, action)
            case MoveAside():
                yield _aside(site, host, action, facts)
            case Install():
                yield site.prepare(action, facts)
            case MakeFolder() | WriteFile():
                raise Conflict(f"{action.path}: a fix asks for links, exports or installs, not for this")


def exported(site: Site, exports: Sequence[Export]) -> tuple[tuple[Step, ...], tuple[str, ...]]:
    """Return the steps that put exports into the activation files, and what is left out; raise Conflict."""
    from cudadoctor.exports import Edited, NoActivation, files, merged, persisted

    def read(path: str) -> bytes | None:
        was = site.ground.read(path)
        return None if was is None else was.content

    try:
        before = persisted(site.target.kind, site.prefix, read)
        if isinstance(before, Edited):
            raise Conflict(f"{before.path}: was edited by hand")
        written = files(site.target.kind, site.prefix, merged(before, exports), read)
    except NoActivation as reason:
        raise Conflict(str(reason)) from None
    made: set[str] = set()
    steps: list[Step] = []
    for path, content in written.files.items():
        site.ground.must_be_writable(path)
        steps += _folders(site.host, path, made)
        was = site.ground.read(path)
        steps.append(WriteFile(path, content, was.mode if was else 0o644, was))
    return tuple(steps), written.left_out


def _link(site: Site, host: Host, action: MakeLink, made: set[str]) -> Iterator[Step]:
    path, text = _placed(site, host, action.path, action.text)
    kind = host.kind(path, follow=False)
    if kind == "link" and host.readlink(path) == text:
        return
    if kind:
        what = f"is a link to {host.readlink(path)}" if kind == "link" else f"a {kind} stands there"
        raise Conflict(f"{path}: {what}")
    yield from _folders(host, path, made)
    yield MakeLink(path, text)


def _old_link(site: Site, host: Host, action: TurnLink | RemoveLink) -> Iterator[Step]:
    text = action.text if isinstance(action, TurnLink) else ""
    path, text = _placed(site, host, action.path, text)
    if host.kind(path, follow=False) != "link" or host.readlink(path) != action.before:
        raise Conflict(f"{path}: is no longer a link to {action.before}")
    if text != action.before:
        yield structs.replace(action, path=path, **({"text": text} if text else {}))


def _placed(site: Site, host: Host, path: str, text: str) -> tuple[str, str]:
    """Return a link's real place and its text as it must be there; raise Conflict outside the environment."""
    folder = posixpath.dirname(path)
    real = host.realpath(folder)
    place = f"{real.rstrip('/')}/{posixpath.basename(path)}"
    if not any(place.startswith(f"{root.rstrip('/')}/") for root in site.roots):
        raise Conflict(f"{place}: is outside the environment")
    if real != posixpath.normpath(folder) and text and not text.startswith("/"):
        target = posixpath.normpath(posixpath.join(folder, text))
        there = f"{host.realpath(posixpath.dirname(target)).rstrip('/')}/{posixpath.basename(target)}"
        text = posixpath.relpath(there, real)
    site.ground.must_be_writable(place)
    return place, text


def _folders(host: Host, path: str, made: set[str]) -> list[Step]:
    """Return the making of each folder above `path` that is not there, once each."""
    missing = []
    folder = posixpath.dirname(path)
    while folder not in made and not host.kind(folder, follow=False):
        missing.append(folder)
        made.add(folder)
        folder = posixpath.dirname(folder)
    return [MakeFolder(name) for name in reversed(missing)]


def _aside(site: Site, host: Host, action: MoveAside, facts: Facts) -> MoveAside:
    folder, name = posixpath.split(action.path)
    real = host.realpath(folder)
    path = f"{real.rstrip('/')}/{name}"
    if not site.ground.within(path):
        caches = facts.caches.folders if isinstance(facts.caches, Caches) else ()
        if not any(f"{action.path}/".startswith(f"{cache.path}/") for cache in caches):
            raise Conflict(f"{action.path}: is no cache of this environment's programs")
        site.ground.add(real)
    if host.kind(path, follow=False) not in ("directory", "file"):
        raise Conflict(f"{path}: is gone")
    site.ground.must_be_writable(path)
    aside, number = f".{name}.cudadoctor-aside", 1
    while host.kind(f"{real}/{aside}", follow=False):
        number += 1
        aside = f".{name}.cudadoctor-aside-{number}"
    return MoveAside(path, aside)
