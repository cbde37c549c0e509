"""Where a faster kernel is forgone, and where the real vLLM says so.

CUDADOCTOR_STACK=/path/to/venv python -m pytest -m stack tests/real/test_slower_kernel.py
"""

from __future__ import annotations

from pathlib import Path

import pytest

from cudadoctor.facts.model import Quantization
from cudadoctor.host import RealHost
from cudadoctor.probes import quantization
from cudadoctor.simulate.quantization import loading

from .test_model_truth import ASKED, STATED, VERIFY, said, site, stack

__all__ = ["site", "stack"]
pytestmark = pytest.mark.stack
#: vLLM's own words for it, and the method that it names.
HEARD = """
from vllm.model_executor.layers.quantization import awq_marlin, gptq_marlin

heard = []
for module in (awq_marlin, gptq_marlin):
    module.logger.info = lambda text, *words: heard.append(text)

def forgone(stated, asked):
    heard.clear()
    ended(stated, asked)
    said = [each.partition("can run with ")[2].partition(",")[0] for each in heard if ", however you" in each]
    return "".join(said)

print(json.dumps([[forgone(stated, asked) for asked in order["asked"]] for stated in order["stated"]]))
"""
FORGONE = VERIFY.rpartition("print(")[0] + HEARD


@pytest.mark.parametrize("card", [(7, 5), (8, 6), (9, 0)])
def test_it_is_forgone_where_vllm_says_so(
    stack: Path, site: Path, tmp_path: Path, card: tuple[int, int]
) -> None:
    (tmp_path / "config.json").write_text("{}")
    asked = [each for each in ASKED if each]
    order = {"stated": STATED, "asked": asked, "card": card, "folder": str(tmp_path)}
    told = said(stack, tmp_path, FORGONE, order)
    known = quantization.methods(RealHost({}), str(site), ASKED)
    known = quantization.methods(RealHost({}), str(site), known.names)
    forgone = 0
    for stated, row in zip(STATED, told, strict=True):
        read = quantization.stated({"quantization_config": stated}, None) if stated else None
        assert stated is None or isinstance(read, Quantization)
        for each, really in zip(asked, row, strict=True):
            found = loading(read, each, known, (), card[0] * 10 + card[1])
            assert found.faster == really, (stated, each, found, really)
            forgone += bool(really)
    assert bool(forgone) == (card >= (8, 0))
