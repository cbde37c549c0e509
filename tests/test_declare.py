"""How a check ends: by what it yields, and by what it raises."""

from collections.abc import Iterator

from cudadoctor.declare import CannotTell, Skip, check
from cudadoctor.facts import Facts, Launch, Repairs, Unknown
from cudadoctor.findings import Finding, Severity
from cudadoctor.outcomes import Failed, Inconclusive, Passed, Skipped

FOUND = Finding("it is broken", Severity.ERROR, ())
FACTS = Facts(repairs=Repairs())


def test_what_was_found_stands_whatever_cannot_be_told_of_the_rest() -> None:
    @check
    def half_seen(repairs: Repairs) -> Iterator[Finding]:
        """Find one thing, and give up on the other."""
        yield FOUND
        raise CannotTell("the other could not be read")

    outcome = half_seen.run(FACTS)
    assert isinstance(outcome, Failed) and outcome.findings == (FOUND,)


def test_nothing_found_and_nothing_told_is_inconclusive() -> None:
    @check
    def unseen(repairs: Repairs) -> Iterator[Finding]:
        """Give up at once."""
        yield from ()
        raise CannotTell("it could not be read")

    outcome = unseen.run(FACTS)
    assert isinstance(outcome, Inconclusive) and outcome.reason == "it could not be read"


def test_one_that_does_not_apply_is_skipped_and_one_without_findings_passes() -> None:
    @check
    def elsewhere(repairs: Repairs) -> Iterator[Finding]:
        """Not apply."""
        yield from ()
        raise Skip("not here")

    @check
    def healthy(repairs: Repairs) -> Iterator[Finding]:
        """Find nothing."""
        yield from ()

    assert isinstance(elsewhere.run(FACTS), Skipped) and isinstance(healthy.run(FACTS), Passed)


def test_a_need_with_a_default_may_be_unknown() -> None:
    @check
    def told(repairs: Repairs, launch: Launch | None = None) -> Iterator[Finding]:
        """Find whether a launch is known."""
        if launch is None:
            yield FOUND

    unknown = Facts(repairs=Repairs(), launch=Unknown("none was given", expected=True))
    assert isinstance(told.run(unknown), Failed) and told.needs == ("repairs", "launch")
    known = Launch("other", ("true",), "command line", {}, {}, {})
    assert isinstance(told.run(Facts(repairs=Repairs(), launch=known)), Passed)
