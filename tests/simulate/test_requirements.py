"""The resolver's model on values: what counts, what does not hold, and what one change would clear."""

import importlib.metadata
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from packaging.markers import Marker
from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from cudadoctor.facts import Distribution, Machine, Packages, Target
from cudadoctor.simulate import requirements as model
from cudadoctor.simulate.requirements import Cause, Conflict

SITE = "/v/lib/python3.12/site-packages"
MACHINE = Machine("x86_64", "Linux", "Debian GNU/Linux 12", "6.1.0", 8, 1 << 36, 1 << 35, 8192, None)


def target(version: str = "3.12.4", sites: tuple[str, ...] = (SITE,)) -> Target:
    return Target("/v", "venv", "/v/bin/python3", version, "/usr", sites, "", "--prefix", True)


WHERE = model.environments(target(), MACHINE)


def one(name: str, version: str, *requires: str, python: str = "", at: str = SITE) -> Distribution:
    file = f"{name.replace('-', '_')}-{version}.dist-info/METADATA"
    return Distribution(name, version, at, "pip", requires, python=python, file=file)


def judged(*found: Distribution, version: str = "3.12.4") -> tuple[Conflict, ...]:
    packages, where = Packages(found), model.environments(target(version), MACHINE)
    return model.conflicts(model.read(packages, where), packages, where)


def says(*found: Distribution, version: str = "3.12.4") -> list[str]:
    return [conflict.says for conflict in judged(*found, version=version)]


def caused(*found: Distribution) -> tuple[Cause, ...]:
    packages = Packages(found)
    requirements = model.read(packages, WHERE)
    return model.causes(model.conflicts(requirements, packages, WHERE), requirements)


# --- what does not hold -------------------------------------------------------------------------------------

VLLM = one("vllm", "0.12.0", "transformers<5,>=4.56.0", "torch==2.9.0", "six>=1.16; python_version > '3.11'")


def test_it_explains_what_is_required_and_what_is_there() -> None:
    found = says(VLLM, one("transformers", "4.41.2"), one("torch", "2.9.0+cu128"))
    assert found == [
        "vllm 0.12.0 requires transformers<5,>=4.56.0; 4.41.2 is installed",
        "vllm 0.12.0 requires six>=1.16; it is not installed",
    ]


def test_a_healthy_environment_has_none() -> None:
    torch, six = one("torch", "2.9.0+cu128"), one("six", "1.17.0")
    assert not judged(VLLM, one("transformers", "4.57.3"), torch, six)


@pytest.mark.parametrize("extra", ["extra == 'x'", "python_version > '3' and extra == 'x'", '(extra == "x")'])
def test_what_an_extra_requires_is_not_asked_for(extra: str) -> None:
    assert not judged(one("a", "1", "b[x]"), one("b", "1", f"c ; {extra}"))
    assert says(one("b", "1", f"c; {extra} or python_version > '3'"))


def test_the_target_s_python_counts_and_not_ours() -> None:
    a = one("a", "1", "b; python_version < '3.9'", "c; python_full_version >= '3.13.2'")
    assert not judged(a)
    assert says(a, version="3.8.1") == ["a 1 requires b; it is not installed"]
    assert says(a, version="3.13.2") == ["a 1 requires c; it is not installed"]


def test_a_python_known_by_half_gives_no_alarm_that_its_other_half_could_undo() -> None:
    a = one("a", "1", "b; python_full_version < '3.12.3'", "c; python_version == '3.12'", python=">=3.12.2")
    assert says(a, version="3.12") == ["a 1 requires c; it is not installed"]
    assert model.environments(target(""), MACHINE) == ()


def test_python_itself_can_be_what_is_wrong() -> None:
    assert says(one("a", "1", python=">=3.13,<4")) == ["a 1 requires Python >=3.13,<4; this is Python 3.12.4"]
    assert says(one("a", "1", python="~=3.13")) and says(one("a", "1", python="<4,>3.12.4, !=3.9.*"))
    assert not judged(one("a", "1", python=">=3.9"), one("b", "1", python="<3.12,!=3.12.4"))


def test_what_is_the_same_version_is_exactly_that() -> None:
    assert not judged(one("a", "1", "b===1.0"), one("b", "1.0.0"))
    assert judged(one("a", "1", "b===1.0"), one("b", "1.0+cu128"))


def test_of_two_on_the_path_the_first_counts() -> None:
    first, second = one("b", "1"), one("b", "2", "gone", at="/usr/lib/python3/dist-packages")
    assert says(one("a", "1", "b>=2"), first, second) == ["a 1 requires b>=2; 1 is installed"]
    assert not judged(one("a", "1", "b>=2"), second, first) or not judged(
        one("a", "1", "b==1"), first, second
    )


def test_two_in_one_folder_are_not_judged() -> None:
    assert not judged(one("a", "1", "b>=3"), one("b", "1", "gone"), one("b", "2", "gone"))


def test_what_is_broken_is_there_and_requires_nothing() -> None:
    broken = Distribution("b", "1", SITE, problem="no METADATA")
    assert says(one("a", "1", "b>=2"), broken) == ["a 1 requires b>=2; 1 is installed"]
    assert not judged(one("a", "1", "b>=2"), Distribution("b", "", SITE, problem="gone"))


def test_a_folder_that_cannot_be_listed_may_hold_what_is_missing() -> None:
    packages = Packages((one("a", "1", "b", "c>=2"), one("c", "1")), unreadable=("/x: Permission denied",))
    found = model.conflicts(model.read(packages, WHERE), packages, WHERE)
    assert [conflict.says for conflict in found] == ["a 1 requires c>=2; 1 is installed"]


@pytest.mark.parametrize("bad", ["b>>>1", "b @", "!", "", "b; nonsense == 3", "b (>=1"])
def test_what_cannot_be_read_is_told_and_the_rest_of_it_is_not_judged(bad: str) -> None:
    packages = Packages((one("a", "1", "gone", bad),))
    requirements = model.read(packages, WHERE)
    assert [text for _, text in requirements.unreadable] == [bad] and not requirements.wants


@pytest.mark.parametrize(
    ("line", "name"),
    [("nvidia-nccl_cu12==2.27.5; os_name == 'posix'", "nvidia-nccl-cu12"), ("B.b[x] (>1)", "b-b"), ("@", "")],
)
def test_what_a_requirement_names_can_be_asked_alone(line: str, name: str) -> None:
    assert model.named(line) == name


@pytest.mark.parametrize(
    ("written", "meant"),
    [("b>=2.*", "b>=2"), ("b>=2<3", "b>=2,<3"), ("b>='2'", "b>=2"), ("b!=~1.0,>1", "b>1")],
)
def test_common_mistakes_are_mended(written: str, meant: str) -> None:
    (first,), (second,) = (
        judged(one("a", "1", written), one("b", "1")),
        judged(one("a", "1", meant), one("b", "1")),
    )
    assert first.found == second.found == "1"


# --- what would change it -----------------------------------------------------------------------------------


def test_the_change_of_one_project_that_suits_all_is_named() -> None:
    others = [one(f"o{number}", "1", f"transformers>=4.{number}") for number in (44, 45)]
    keeps = one("k", "1", "transformers!=4.60.0")
    (cause,) = caused(
        VLLM, one("torch", "2.9.0"), one("six", "2"), *others, keeps, one("transformers", "4.41.2")
    )
    assert len(cause.conflicts) == 3 and cause.change == ("transformers>=4.56.0,<5,!=4.60.0",)


def test_the_change_that_clears_the_most_comes_first() -> None:
    first, second = caused(
        one("a", "1", "x==2", "y>=2"), one("b", "1", "x>=1.5"), one("x", "1"), one("y", "1"), one("z", "1")
    )
    assert (first.change, len(first.conflicts)) == (("x==2",), 2)
    assert (second.change, len(second.conflicts)) == (("y>=2",), 1)


def test_what_is_missing_is_to_be_installed() -> None:
    (cause,) = caused(one("a", "1", "b"), one("c", "1", "b~=1.4"))
    assert cause.change == ("b~=1.4",)
    assert caused(one("a", "1", "b"))[0].change == ("b",)


def test_what_only_an_outdated_project_objects_to_stays() -> None:
    (cause,) = caused(
        one("vllm", "0.12.0", "transformers<5,>=4.56.0", "tokenizers>=0.21.1"),
        one("transformers", "4.41.2", "tokenizers<0.20,>=0.19"),
        one("tokenizers", "0.22.2"),
    )
    assert cause.change == ("transformers>=4.56.0,<5",) and len(cause.conflicts) == 2


def test_torch_stays_as_it_is_for_what_is_built_around_it() -> None:
    (cause,) = caused(
        one("torch", "2.14.1+cu130"),
        one("torchvision", "0.24.0", "torch==2.9.0"),
        one("xformers", "0.0.33", "torch==2.9.0"),
    )
    assert cause.change == ("torchvision!=0.24.0", "xformers!=0.0.33", "torch==2.14.1+cu130")
    assert len(cause.conflicts) == 2


def test_torch_changes_for_what_serves_models() -> None:
    (cause,) = caused(one("torch", "2.10.0"), one("vllm", "0.12.0", "torch==2.9.0"))
    assert cause.change == ("torch==2.9.0",)


def test_projects_that_hold_each_other_change_together() -> None:
    (cause,) = caused(
        one("vllm", "0.12.0", "torch==2.9.0", "torchvision==0.24.0"),
        one("torch", "2.10.0"),
        one("torchvision", "0.25.0", "torch==2.10.0"),
    )
    assert cause.change == ("torch==2.9.0", "torchvision==0.24.0") and len(cause.conflicts) == 2


def test_where_no_version_suits_those_who_exclude_each_other_are_named() -> None:
    (cause,) = caused(one("a", "1", "x<2"), one("b", "1", "x>=2"), one("c", "1", "x"), one("x", "3"))
    assert not cause.change and [want.text for want in cause.against] == ["x<2", "x>=2"]


# --- the quick way against packaging ------------------------------------------------------------------------

numbers = st.integers(0, 12).map(str)
releases = st.lists(numbers, min_size=1, max_size=4).map(".".join)
tails = st.sampled_from(["", "", "", "rc1", "a2", ".post1", ".dev3", "rc1.dev2", ".post2.dev1", "b1.post1"])
versions = st.builds("{}{}{}{}".format, st.sampled_from(["", "", "", "1!"]), releases, tails,
                     st.sampled_from(["", "", "+cu128", "+cu128torch2.9", "+1"]))  # fmt: skip
operations = st.one_of(
    st.builds("{}{}{}".format, st.sampled_from([">=", "<=", ">", "<", "==", "!=", "~="]), releases, tails),
    st.builds("{}{}.*".format, st.sampled_from(["==", "!="]), releases),
    st.builds("{}{}".format, st.sampled_from(["==", "!="]), versions),
    st.builds("{} v{}".format, st.sampled_from(["==", ">="]), releases),
)


@settings(max_examples=3000)
@given(st.lists(operations, min_size=1, max_size=3), versions)
def test_a_specifier_accepts_what_packaging_accepts(parts: list[str], version: str) -> None:
    specifier = ",".join(parts)
    try:
        theirs = SpecifierSet(specifier).contains(Version(version), prereleases=True)
    except InvalidSpecifier:
        return
    assert model._accepts(specifier, version) == theirs


atoms = st.one_of(
    st.builds(
        "{} {} {}".format,
        st.sampled_from(["python_version", "python_full_version"]),
        st.sampled_from(["<", "<=", ">", ">=", "==", "!="]),
        st.sampled_from(["'3'", "'3.8'", '"3.12"', '"3.12.4"', "'3.13'", "'4.0'", "'2.7'", "'3.12.*'"]),
    ),
    st.builds(
        "{}{}{}".format,
        st.sampled_from(["sys_platform", "platform_system", "platform_machine", "os_name",
                         "implementation_name", "platform_python_implementation"]),
        st.sampled_from(["==", "!=", " == ", " != "]),
        st.sampled_from(["'linux'", "'Linux'", '"win32"', '"x86_64"', "'posix'", "'cpython'", "'CPython'"]),
    ),
    st.sampled_from(["extra == 'x'", 'extra != "x"', "extra == \"a-b\"", "'linux' in sys_platform",
                     "python_version in '3.11 3.12'", "'3.12' <= python_version"]),
)  # fmt: skip
markers = st.recursive(
    atoms,
    lambda inner: st.one_of(
        st.builds("({})".format, inner),
        st.builds("{} and {}".format, inner, inner),
        st.builds("{} or {}".format, inner, inner),
    ),
    max_leaves=6,
)


@settings(max_examples=1500)
@given(markers)
def test_a_marker_holds_where_packaging_says_so(marker: str) -> None:
    (where,) = WHERE
    assert model._evaluated(marker, where, marker) == Marker(marker).evaluate({**where, "extra": ""})


@pytest.mark.parametrize(
    "marker",
    ["", "and", "python_version", "(python_version > '3'", "python_version > '3')", "a == 'b' or", "()",
     "extra == 'x' extra == 'y'", "python_version > '3' and and os_name == 'posix'"],
)  # fmt: skip
def test_what_is_no_marker_is_left_to_packaging(marker: str) -> None:
    assert model._quick(marker, WHERE[0]) is None


def plainly(packages: Packages) -> set[tuple[str, str, str]]:
    """Return (who, whom, what is there) of every conflict, with packaging for everything."""
    (where,) = WHERE
    first: dict[str, Distribution] = {}
    for each in packages.distributions:
        first.setdefault(each.name, each)
    found: set[tuple[str, str, str]] = set()
    for each in first.values():
        for line in each.requires:
            requirement = Requirement(line)
            if requirement.marker and not requirement.marker.evaluate({**where, "extra": ""}):
                continue
            there = first.get(canonicalize_name(requirement.name))
            if there is None or not requirement.specifier.contains(there.version, prereleases=True):
                found.add((each.name, canonicalize_name(requirement.name), there.version if there else ""))
    return found


def quickly(packages: Packages) -> set[tuple[str, str, str]]:
    found = model.conflicts(model.read(packages, WHERE), packages, WHERE)
    return {(c.want.holder.name, c.want.name, c.found) for c in found}


names = st.sampled_from(["a", "b", "c-c", "d"])
spelled = st.sampled_from(["a", "A", "b", "c_c", "C.-c", "d", "d[x]", "d [x, y]"])
lines = st.builds(
    "{}{}{}".format,
    spelled,
    st.one_of(st.just(""), operations, st.builds(" ({}, {})".format, operations, operations)),
    st.one_of(st.just(""), st.builds(" ; {}".format, markers)),
)
environments = st.lists(st.tuples(names, versions, st.lists(lines, max_size=4)), max_size=5)


@settings(max_examples=800, deadline=None)
@given(environments)
def test_generated_environments_have_the_conflicts_that_packaging_finds(
    found: list[tuple[str, str, list[str]]],
) -> None:
    try:
        for _, _, requires in found:
            for line in requires:
                Requirement(line)
    except InvalidRequirement:
        return
    unique = {name: one(name, version, *requires) for name, version, requires in found}
    packages = Packages(tuple(unique.values()))
    assert quickly(packages) == plainly(packages)


def installed_here() -> Packages:
    found = []
    for each in importlib.metadata.distributions():
        requires = tuple(each.requires or ())
        found.append(one(canonicalize_name(each.metadata["Name"]), each.version, *requires))
    return Packages(tuple(found))


def test_this_interpreter_s_environment_has_the_conflicts_that_packaging_finds() -> None:
    packages = installed_here()
    assert len(packages.distributions) > 5 and quickly(packages) == plainly(packages)


WITHOUT_PACKAGING = """
import sys
from cudadoctor.facts import Distribution, Packages
from cudadoctor.simulate import requirements as model

where = ({"python_version": "3.12", "python_full_version": "3.12.4", "sys_platform": "linux"},)
a = Distribution("a", "1", "/s", requires=("b>=1.0dev0,<2", "b!=1.4.*; (python_version > '3')"))
packages = Packages((a, Distribution("b", "1.5+cu128", "/s")))
print(model.conflicts(model.read(packages, where), packages, where), "packaging" in sys.modules)
"""


def test_a_healthy_environment_is_judged_without_packaging() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", WITHOUT_PACKAGING], capture_output=True, text=True, check=True
    )
    assert ran.stdout.strip() == "() False"


def test_plain_requirements_are_judged_without_packaging(monkeypatch: pytest.MonkeyPatch) -> None:
    pins = [one(f"p{number}", f"{number}.4.2") for number in range(170)]
    requires = [f"p{number % 170}>={number % 170}.{number % 4},<{number % 170 + 1}" for number in range(2000)]
    holders = [one(f"h{part}", "1", *requires[part * 10 : part * 10 + 10]) for part in range(200)]
    for module in ("specifiers", "requirements", "markers", "version"):
        monkeypatch.setitem(sys.modules, f"packaging.{module}", None)  # importing it raises
    assert not quickly(Packages((*pins, *holders)))


def test_a_version_of_five_thousand_digits_is_not_judged() -> None:
    assert says(one("a", "1", "b<2"), one("b", "9" * 5000)) == []


def test_a_project_that_is_asked_for_in_a_thousand_ways_is_told_without_a_change(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from packaging.specifiers import SpecifierSet

    asked = []
    contains = SpecifierSet.contains

    def counted(self: SpecifierSet, *args: object, **named: object) -> bool:
        asked.append(1)
        return contains(self, *args, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(SpecifierSet, "contains", counted)
    many = one("a", "1", *(f"x!={n},>={n}" for n in range(1000)))
    (cause, other) = sorted(caused(many, one("b", "1", "y>=2")), key=lambda each: -len(each.conflicts))
    assert len(cause.conflicts) == 1000 and not cause.change and not cause.against
    assert other.change == ("y>=2",)
    assert len(asked) < 10_000


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("b  >= 2 ;  python_version >= '3'", "b >= 2"), ("b [x,  y] (>=2)", "b [x, y] (>=2)"),
        ("b @ https://e.org/b.whl ; python_version >= '3'", "b @ https://e.org/b.whl"), ("b>=2;", "b>=2;"),
    ],
)  # fmt: skip
def test_blanks_may_stand_anywhere_in_a_requirement(line: str, text: str) -> None:
    (conflict,) = judged(one("a", "1", line))
    assert (conflict.want.name, conflict.want.text) == ("b", text)


@pytest.mark.parametrize("line", ["b- >=2", "b @", "b @ https://e.org/b x", "b (>=2", "b >=2)", "[x]"])
def test_what_is_nearly_a_requirement_is_none(line: str) -> None:
    requirements = model.read(Packages((one("a", "1", line),)), WHERE)
    assert requirements.unreadable and not requirements.wants
