"""Launches made by hand, for the checks of what is to be started."""

from typing import Any

from cudadoctor.facts import (
    Card,
    Given,
    Launch,
    Model,
    Packages,
    Quantization,
    Unknown,
    Weights,
)
from cudadoctor.outcomes import Outcome
from cudadoctor.testing import judge
from tests.simulate.models import QWEN25_32B, Config

from . import gpus, installed

GIB = 1 << 30
RTX_3090 = Card("rtx-3090", int(23.58 * GIB), "8.6", source="--gpu")


def launch(kind: str = "vllm-serve", **options: object) -> Launch:
    """Return `vllm serve` with these options."""
    given = {f"--{n.replace('_', '-')}": Given((str(v),), "command line", n) for n, v in options.items()}
    argv = ("vllm", "serve", "Qwen/Qwen2.5-32B-Instruct-AWQ")
    return Launch(kind, argv, "command line", given, {}, {}, model=argv[-1])  # type: ignore[arg-type]


def model(config: Config | None = QWEN25_32B, method: str = "awq", gib: float | None = 18.0) -> Model:
    """Return a model in a folder, whose files tell how large it is."""
    weights = None if gib is None else Weights("safetensors", int(gib * GIB))
    stated = Quantization(method, "config.json: quantization_config") if method else None
    name = "Qwen/Qwen2.5-32B-Instruct-AWQ"
    return Model(
        name, "folder", path="/models/it", config=config, config_path="/models/it/config.json",
        quantization=stated, weights=weights,
    )  # fmt: skip


def judged(
    check: str,
    given: Launch | Unknown,
    held: Model | None = None,
    card: Card | Unknown = RTX_3090,
    **more: Any,
) -> Outcome:
    """Return how a check ends on a launch beside vLLM 0.12.0."""
    packages: Packages = more.pop("packages", None) or installed.all_of(installed.one("vllm", "0.12.0"))
    return judge(
        check, launch=given, model=held or model(), card=card, packages=packages,
        machine=more.pop("machine", None) or gpus.host(),
        driver=more.pop("driver", None) or gpus.driver(), **more,
    )  # fmt: skip
