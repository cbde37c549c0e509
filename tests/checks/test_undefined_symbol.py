"""Findings about symbols that the loader does not resolve; tests/real/test_symbols.py has the real ones."""

from pathlib import Path

import pytest
from msgspec import structs

from cudadoctor.facts import Symbols, UndefinedSymbol, Unknown, Unresolved, Untraced
from cudadoctor.findings import Evidence, Severity
from cudadoctor.outcomes import Inconclusive, Outcome, Passed, Skipped
from cudadoctor.testing import judge

from .build import one, shown
from .loaded import Stack

NEW = "_ZN3c106detail14torchCheckFailEPKcS2_jRKNSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEEE"
OLD = "_ZN3c106detail14torchCheckFailEPKcS2_jRKSs"


@pytest.fixture
def stack(tmp_path: Path) -> Stack:
    stack = Stack(tmp_path)
    stack.torch("libcublasLt.so.12", requires=["nvidia-cublas-cu12==12.8.4.1"], rpath="$ORIGIN/../../cublas")
    stack.library("cublas/libcublasLt.so.12")
    return stack


def look(stack: Stack, *found: Unresolved, untraced: tuple[Untraced, ...] = (), traced: int = 1) -> Outcome:
    return judge("undefined-symbol", structs.replace(stack.facts(), symbols=Symbols(found, untraced, traced)))


def lacks(stack: Stack, *symbols: UndefinedSymbol, file: str = "_C", of: str = "vllm") -> Unresolved:
    """Return a library of a distribution's that lacks these symbols, in the company of torch's extension."""
    torch = f"{stack.site}/torch/_C.cpython-312-x86_64-linux-gnu.so"
    return Unresolved(f"{stack.site}/{of}/{file}.abi3.so", torch, symbols, len(symbols) + 2, of)


def test_is_silent_where_every_symbol_is_found(stack: Stack) -> None:
    assert isinstance(look(stack), Passed)


def test_is_silent_without_deep_and_without_extensions(stack: Stack, tmp_path: Path) -> None:
    facts = structs.replace(stack.facts(), symbols=Unknown("runs only with --deep", expected=True))
    assert isinstance(judge("undefined-symbol", facts), Skipped)
    assert isinstance(look(Stack(tmp_path / "bare"), traced=0), Skipped)


def test_cannot_tell_of_all_where_some_could_not_be_traced(stack: Stack) -> None:
    partly = (Untraced("/x/_C.so", "libgone.so.1 is missing"), Untraced("/x/_D.so", "as well"))
    outcome = look(stack, untraced=partly)
    assert isinstance(outcome, Inconclusive)
    assert outcome.reason == "/x/_C.so: libgone.so.1 is missing, and 1 more"
    one(look(stack, lacks(stack, UndefinedSymbol("_ZN3c105freshEv")), untraced=partly), Severity.ERROR)


def test_cannot_tell_where_no_trace_ended_well(stack: Stack) -> None:
    outcome = look(stack, untraced=(Untraced("/x/_C.so", "the loader did not end in time"),), traced=0)
    assert isinstance(outcome, Inconclusive) and outcome.reason == "/x/_C.so: the loader did not end in time"


@pytest.mark.parametrize(("needs", "has", "words"), [(OLD, NEW, ("old", "new")), (NEW, OLD, ("new", "old"))])
def test_the_other_abi_explains_all_else(needs: str, has: str, words: tuple[str, str], stack: Stack) -> None:
    symbols = (UndefinedSymbol("_ZN3c105freshEv"), UndefinedSymbol(needs, alike=has))
    finding = one(look(stack, lacks(stack, *symbols)), Severity.ERROR)
    assert finding.summary == (
        f"vllm/_C.abi3.so needs c10::detail::torchCheckFail, built with the {words[0]} C++ ABI, "
        f"and torch 2.9.0+cu128 with the {words[1]} one"
    )
    assert Evidence("torch 2.9.0+cu128", f"has {has}") in finding.evidence
    assert "undefined symbol: _ZN3c105freshEv, and 3 more" in shown(finding)
    assert finding.remedies[0].summary == "a build of vllm for torch 2.9 and CUDA 12.8"


def test_extensions_of_one_distribution_are_one_finding(stack: Stack) -> None:
    symbol = UndefinedSymbol("_ZN2at5freshEv")
    several = [lacks(stack, symbol, file=name) for name in ("_C", "_moe_C", "_flash_C")]
    finding = one(look(stack, *several))
    assert finding.summary.startswith("vllm/_C.abi3.so and 2 more of vllm need at::fresh, which torch")
    assert len(finding.evidence) == 3


def test_torch_s_own_library_is_to_be_installed_again(stack: Stack) -> None:
    finding = one(look(stack, lacks(stack, UndefinedSymbol("_ZN3c105freshEv"), of="torch")))
    assert "they are not of one torch" in finding.summary
    assert finding.remedies[0].summary == f"{stack.pip} install --force-reinstall --no-deps torch==2.9.0"


def test_a_library_of_cuda_s_is_installed_as_torch_asks_for_it(stack: Stack) -> None:
    symbol = UndefinedSymbol("cublasLtFresh", "libcublasLt.so.12", "libcublasLt.so.12")
    finding = one(look(stack, lacks(stack, symbol)))
    assert (
        finding.summary == "vllm/_C.abi3.so needs cublasLtFresh, which cublas/libcublasLt.so.12 does not have"
    )
    assert finding.remedies[0].values == {"packages": "nvidia-cublas-cu12==12.8.4.1"}
    stack.wheel("nvidia-cublas-cu12", "12.8.4.1")
    again = one(look(stack, lacks(stack, UndefinedSymbol("cublasLtFresh"))))
    assert again.remedies[0].summary == (
        f"{stack.pip} install --force-reinstall --no-deps nvidia-cublas-cu12==12.8.4.1"
    )
    stack.library("cublas/unrelated.so")
    unknown = one(look(stack, lacks(stack, UndefinedSymbol("ncclFresh"))))
    assert unknown.summary.endswith("needs ncclFresh, which nothing that is loaded with it defines")
    assert not unknown.remedies
