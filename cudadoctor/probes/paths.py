"""Which parts of the stack a launch will run: above all whether FlashInfer's operators are among them."""

from __future__ import annotations

from cudadoctor.attention import paths_of
from cudadoctor.facts import Card, Environ, Launch, Model, Packages, Paths, Unknown
from cudadoctor.host import Host


def probe(
    host: Host, launch: Launch, environ: Environ, packages: Packages, model: Model | None, card: Card | None
) -> Paths | Unknown:
    """Return what the launch runs; Unknown for one in a container, whose vLLM is not this environment's."""
    if launch.contained:
        return Unknown("the launch runs in a container", expected=True)
    return paths_of(launch, environ, packages, model, card)
