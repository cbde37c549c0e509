"""How a launch spreads a model over GPUs, and whether vLLM divides it so.

After `config/parallel.py`, `config/model.py` and `model_executor/layers/linear.py` of vLLM 0.10.2, 0.12.0,
0.14, 0.16, 0.18, 0.20, 0.25, 0.29 and 0.33 (sources, read 2026-11).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from msgspec import Struct

if TYPE_CHECKING:  # the probe of the cards asks for the sizes alone
    from cudadoctor.facts import Launch
    from cudadoctor.simulate.model_shape import Shape

TENSOR, PIPELINE, DATA = (f"--{kind}-parallel-size" for kind in ("tensor", "pipeline", "data"))
#: What starts ranks on other machines, or leaves it to others to start them.
_ELSEWHERE = (
    "--nnodes", "--node-rank", "--headless", "--data-parallel-size-local", "--data-parallel-rank",
    "--data-parallel-start-rank", "--data-parallel-address", "--data-parallel-hybrid-lb",
    "--data-parallel-external-lb", "--data-parallel-backend", "--prefill-context-parallel-size",
)  # fmt: skip


class Sizes(Struct, frozen=True):
    """How many ways the model is divided, and how often it is held."""

    tensor: int = 1
    pipeline: int = 1
    data: int = 1

    @property
    def cards(self) -> int:
        """Return how many GPUs that takes."""
        return self.tensor * self.pipeline * self.data


def sizes_of(launch: Launch) -> Sizes | None:
    """Return the sizes, 1 where none is given; None where one is no number, or known in the run alone."""
    found = []
    for name in (TENSOR, PIPELINE, DATA):
        given = launch.options.get(name)
        text = given.values[-1] if given is not None and given.values else ""
        if given is not None and text != "None" and not re.fullmatch(r"\s*-?\d{1,6}\s*", text, re.ASCII):
            return None
        found.append(1 if given is None or text == "None" else int(text))
    return Sizes(*found)


def on_one_machine(launch: Launch) -> bool:
    """Return whether all ranks surely run here: nothing speaks of Ray, other nodes or another launcher."""
    executor = launch.options.get("--distributed-executor-backend")
    if launch.partial or (executor is not None and executor.values not in (("mp",), ("None",))):
        return False
    return not any(name in launch.options for name in _ELSEWHERE)


def indivisible(shape: Shape, tensor: int) -> str:
    """Return why the heads cannot be divided over so many ranks, in vLLM's words; "" where they can."""
    # A model with one head, as read, may be one whose config does not tell; cross attention has its own.
    if tensor < 2 or shape.heads < 2 or shape.cross:
        return ""
    if shape.heads % tensor:
        return (
            f"Total number of attention heads ({shape.heads}) must be divisible by tensor parallel size "
            f"({tensor})."
        )
    if shape.latent is not None or not shape.attention:
        return ""
    large, small = max(tensor, shape.kv_heads), min(tensor, shape.kv_heads)
    return f"{large} is not divisible by {small}" if large % small else ""


def divides(shape: Shape, tensor: int, group: int) -> bool:
    """Return whether a model surely divides so: its heads, and where it is quantised its groups of weights.

    `group` is how many weights share a scale; 0 where that sets no bound.
    """
    if indivisible(shape, tensor) or shape.heads % tensor:
        return False
    if group < 2:
        return True
    widths = [shape.intermediate, shape.heads * shape.head_dim if shape.latent is None else 0]
    if shape.experts is not None:
        widths += [shape.experts.intermediate, shape.experts.shared]
        # A mixture of experts has dense layers as wide as `intermediate` only where it counts some.
        widths[0] = shape.intermediate if shape.experts.dense_layers else 0
    return all(width % (tensor * group) == 0 for width in widths)
