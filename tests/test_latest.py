"""An answer is kept for the same facts, and for no others."""

import pytest

from cudadoctor.facts import Packages
from cudadoctor.latest import latest

ASKED: list[tuple[object, ...]] = []


@latest
def answer(packages: Packages, text: str = "", *more: object) -> int:
    """Count the questions that were worked on."""
    if text == "raise":
        raise ValueError(text)
    ASKED.append((packages, text, *more))
    return len(ASKED)


def test_the_same_facts_are_worked_on_once() -> None:
    packages = Packages(())
    assert answer(packages, "a" * 30, ("b",)) == answer(packages, "".join(["a"] * 30), tuple("b"))


def test_equal_facts_are_other_facts() -> None:
    assert answer(Packages(())) != answer(Packages(()))


@pytest.mark.parametrize("other", [("x",), ("", "y"), ("", ("y",)), ()])
def test_other_texts_are_other_questions(other: tuple[str, ...]) -> None:
    packages = Packages(())
    first = answer(packages, "z")
    assert answer(packages, *other) != first


def test_only_the_latest_answer_is_kept() -> None:
    packages = Packages(())
    first = answer(packages, "1")
    answer(packages, "2")
    assert answer(packages, "1") != first


def test_named_arguments_are_never_taken_for_others() -> None:
    packages = Packages(())
    assert answer(packages, text="1") != answer(packages, text="1")


def test_what_raises_raises_each_time() -> None:
    for _ in range(2):
        with pytest.raises(ValueError, match="raise"):
            answer(Packages(()), "raise")
