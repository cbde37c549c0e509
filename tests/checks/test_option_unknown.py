from msgspec import structs

from cudadoctor.facts import Refused, Unknown
from cudadoctor.findings import Severity
from cudadoctor.outcomes import Outcome, Passed, Skipped
from cudadoctor.testing import judge

from .build import one, shown
from .launched import launch

ARGUMENTS = "/v/vllm/engine/arg_utils.py"


def look(*refused: Refused, kind: str = "vllm-serve") -> Outcome:
    given = structs.replace(launch(kind), refused=refused, options_from=ARGUMENTS)
    return judge("option-unknown", launch=given)


def test_reports_an_option_that_is_gone_with_the_nearest() -> None:
    gone = Refused("--max-modell-len", "--max-modell-len", "start.sh:4", "unknown", "4096", "--max-model-len")
    finding = one(look(gone), Severity.ERROR)
    assert finding.summary == "this vLLM has no option --max-modell-len"
    assert f"start.sh:4: --max-modell-len 4096\n{ARGUMENTS}: lists no such option" in shown(finding)
    assert finding.remedies[0].summary == "--max-model-len"


def test_reports_a_value_with_those_it_takes() -> None:
    name = "--kv-cache-dtype"
    finding = one(look(Refused(name, name, "command line", "choice", "fp9", "fp8", ("auto", "fp8"))))
    assert finding.summary == "--kv-cache-dtype does not take 'fp9'"
    assert f"{ARGUMENTS}: takes auto, fp8" in shown(finding)
    assert finding.remedies[0].summary == "--kv-cache-dtype fp8"


def test_reports_a_number_out_of_range() -> None:
    name = "--gpu-memory-utilization"
    finding = one(look(Refused(name, name, "command line", "range", "7", expects="> 0, <= 1")))
    assert f"{ARGUMENTS}: wants > 0, <= 1" in shown(finding) and finding.remedies == ()


def test_what_only_one_of_several_launches_gives_is_a_warning() -> None:
    gone = Refused("--gone", "--gone", "start.sh:4", "unknown", uncertain=True)
    one(look(gone), Severity.WARNING)


def test_reports_an_option_that_wants_another_beside_it() -> None:
    name = "--enable-auto-tool-choice"
    alone = Refused(name, name, "command line", "alone", expects="--tool-call-parser beside it")
    finding = one(look(alone), Severity.ERROR)
    assert finding.summary == "--enable-auto-tool-choice is given without --tool-call-parser"
    assert f"{ARGUMENTS}: wants --tool-call-parser beside it" in shown(finding)


def test_is_silent_when_all_are_taken() -> None:
    assert isinstance(look(), Passed)


def test_is_silent_where_no_launch_was_given() -> None:
    assert isinstance(look(kind="other"), Skipped)
    assert isinstance(judge("option-unknown", launch=Unknown("no launch", expected=True)), Skipped)
