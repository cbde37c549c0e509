"""What the loader says of an extension's symbols, and what opening that extension for real says.

The libraries are compiled here. The tests marked `stack` open every extension of the environments in
CUDADOCTOR_STACK (a prefix, or several with colons between) behind their torch.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from ctypes.util import find_library
from pathlib import Path

import pytest
from msgspec import structs

import cudadoctor.elf as reader
from cudadoctor.engine import collect, needed
from cudadoctor.facts import Environ, Facts, Packages, SharedObjects, Symbols
from cudadoctor.findings import Severity
from cudadoctor.host import RealHost
from cudadoctor.knowledge import symbols as names
from cudadoctor.outcomes import Failed, Inconclusive, Outcome, Passed
from cudadoctor.probes import symbols
from cudadoctor.probes.ldcache import cached
from cudadoctor.probes.target import Request
from cudadoctor.testing import judge
from tests.checks.build import one, shown
from tests.checks.loaded import Stack

from .conftest import _do_without
from .test_deep import root_of, written
from .test_loader import prefixes

#: As much of torch as an extension needs to be built for it, and what a later one will have.
HEADER = """
#include <string>
namespace c10 {
  namespace detail { void torchCheckFail(const char*, const char*, unsigned, const std::string&); }
  std::string name();
  int count(int);
}
"""
SOURCE = """
namespace c10 {
  namespace detail { void torchCheckFail(const char*, const char*, unsigned, const std::string&) {} }
  std::string name() { return ""; }
  int count(int) { return 1; }
}
"""
USES = """
int use() { c10::detail::torchCheckFail("", "", 1, "no"); return c10::count(1) + c10::name().size(); }
"""
NEXT = """
namespace c10 { int count(long); int fresh(int*); }
int later() { return c10::fresh(0) + c10::count(1L); }
"""
C_NAME = re.compile(r"undefined symbol: ([^\s,]+)|symbol ([^\s,]+), version \S+ not defined")

#: Opens each file behind the others that it is given, in a process of its own, and tells how that ended.
OPEN = """
import ctypes, json, os, sys
shared, first, files, torch = json.loads(sys.argv[1])
assert sys.getdlopenflags() == os.RTLD_NOW
if torch: import torch
for path in shared: ctypes.CDLL(path, mode=ctypes.RTLD_GLOBAL)
for path in first: ctypes.CDLL(path)
said = {}
for path in files:
    reading, writing = os.pipe()
    if not (child := os.fork()):
        import importlib.machinery, importlib.util
        words = ""
        try:
            if path.startswith("import "):
                loader = importlib.machinery.ExtensionFileLoader("any", path[7:])
                importlib.util.module_from_spec(importlib.util.spec_from_loader("any", loader))
            else: ctypes.CDLL(path)
        except (OSError, ImportError) as error: words = str(error)
        os.write(writing, words.encode()[:4000] or b"opened")
        os._exit(0)
    os.close(writing)
    os.waitpid(child, 0)
    said[path] = os.read(reading, 4000).decode()
print(json.dumps(said))
"""


def opened(
    files: Sequence[str],
    first: Sequence[str] = (),
    shared: Sequence[str] = (),
    python: str = sys.executable,
    torch: bool = False,
    variables: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Return the first symbol that opening each file does not find; "" where it opens, else what was said."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("LD_")}
    environ |= variables or {}
    question = json.dumps([shared, first, files, torch])
    ran = subprocess.run(
        [python, "-c", OPEN, question], env=environ, capture_output=True, text=True, timeout=600
    )
    assert ran.returncode == 0, ran.stderr
    told: dict[str, str] = json.loads(ran.stdout.splitlines()[-1])

    def symbol(words: str) -> str:
        match = C_NAME.search(words)
        return (match[1] or match[2]) if match else "" if words == "opened" else words

    return {path: symbol(words) for path, words in told.items()}


class Built:
    """An environment whose torch and extensions are compiled."""

    def __init__(self, root: Path, gxx: str) -> None:
        self.stack, self._gxx = Stack(root), gxx
        self.stack.torch()
        self.site = self.stack.site
        (self.site / "torch" / "_C.cpython-312-x86_64-linux-gnu.so").unlink()
        self.compile("torch/lib/libc10.so", HEADER + SOURCE)
        needs = ("-Wl,-rpath,$ORIGIN/lib", *self.link("torch/lib", "c10"))
        self.torch = self.compile("torch/_C.cpython-312-x86_64-linux-gnu.so", HEADER + USES, *needs)
        self.stack.wheel("vllm", "0.12.0", ["torch==2.9.0"])

    def compile(self, path: str, source: str, *flags: str) -> str:
        """Compile a library into site-packages, its soname its name; return its path."""
        place = self.site / path
        place.parent.mkdir(parents=True, exist_ok=True)
        own = ("-shared", "-fPIC", f"-Wl,-soname,{place.name}", "-o", str(place))
        command = [self._gxx, "-xc++", "-", "-xnone", "-Wl,--no-as-needed", *own, *flags]
        subprocess.run(command, input=source, text=True, check=True)
        return str(place)

    def link(self, folder: str, *names: str) -> list[str]:
        """Return the flags that link libraries of site-packages."""
        return [f"-L{self.site}/{folder}", *(f"-l{name}" for name in names)]

    def extension(self, source: str, *flags: str, name: str = "_C") -> str:
        """Compile an extension of vLLM's that needs torch's library, which torch has loaded."""
        return self.compile(f"vllm/{name}.abi3.so", HEADER + source, *self.link("torch/lib", "c10"), *flags)

    def facts(self, **variables: str) -> Facts:
        """Return what the probes of `--deep` see with these variables."""
        host = RealHost({"PATH": f"{self.stack.root}/bin", "VIRTUAL_ENV": str(self.stack.root), **variables})
        request = Request(prefix=str(self.stack.root), deep=True)
        return collect(host, needed((), deep=True, also=("symbols",)), request)

    def judged(self, **variables: str) -> Outcome:
        """Return how the check ends with these variables."""
        return judge("undefined-symbol", self.facts(**variables))

    def opened(self, extension: str, **variables: str) -> str:
        """Return what really opening an extension does not find, which is the same for an import of it."""
        files = [extension, f"import {extension}"]
        by_ctypes, imported = opened(files, [self.torch], variables=variables).values()
        assert by_ctypes == imported or "PyInit" in imported
        return by_ctypes


@pytest.fixture
def built(tmp_path: Path, gxx: str) -> Built:
    return Built(tmp_path, gxx)


def first_of(facts: Facts, path: str) -> str:
    """Return the first symbol that is lacking in a library."""
    assert isinstance(facts.symbols, Symbols)
    assert not facts.symbols.untraced, facts.symbols.untraced
    return next((each.symbols[0].name for each in facts.symbols.unresolved if each.path == path), "")


# --- each reason, compiled ----------------------------------------------------------------------------------


def test_an_extension_that_opens_is_not_spoken_of(built: Built) -> None:
    extension = built.extension(USES)
    assert built.opened(extension) == ""
    assert isinstance(built.judged(), Passed)


@pytest.mark.parametrize(
    ("source", "says"),
    [
        (NEXT, "needs c10::fresh, which torch 2.9.0+cu128 does not have: it is built for another torch"),
        (
            "namespace c10 { int count(long); } int f() { return c10::count(1L); }",
            "needs c10::count, which torch 2.9.0+cu128 has with other parameters: "
            "it is built for another torch",
        ),
        (
            'extern "C" int torch_call_dispatcher(); int f() { return torch_call_dispatcher(); }',
            "needs torch_call_dispatcher, which torch 2.9.0+cu128 does not have: it is built for a newer one",
        ),
        (
            'extern "C" void* PyGone_New(); void* f() { return PyGone_New(); }',
            "needs PyGone_New, which Python 3.12.1 does not have: it is built for another Python",
        ),
        (
            'extern "C" int anything(); int (*f)() = anything;',
            "needs anything, which nothing that is loaded with it defines",
        ),
    ],
)
def test_says_first_what_opening_says_and_why(source: str, says: str, built: Built) -> None:
    extension = built.extension(source)
    facts = built.facts()
    assert first_of(facts, extension) == built.opened(extension) != ""
    finding = one(judge("undefined-symbol", facts), Severity.ERROR)
    assert finding.summary == f"vllm/_C.abi3.so {says}"
    assert f"undefined symbol: {first_of(facts, extension)}" in shown(finding)
    if "torch 2.9" in says:
        assert finding.remedies[0].summary == "a build of vllm for torch 2.9 and CUDA 12.8"


@pytest.mark.parametrize("flag", ["-D_GLIBCXX_USE_CXX11_ABI=0", ""])
def test_names_the_abi_that_an_extension_is_built_with(flag: str, tmp_path: Path, gxx: str) -> None:
    built = Built(tmp_path, gxx)
    old, new = ("old", "new") if flag else ("new", "old")
    if not flag:
        built.compile("torch/lib/libc10.so", HEADER + SOURCE, "-D_GLIBCXX_USE_CXX11_ABI=0")
        needs = (*built.link("torch/lib", "c10"), "-Wl,-rpath,$ORIGIN/lib", "-D_GLIBCXX_USE_CXX11_ABI=0")
        built.compile("torch/_C.cpython-312-x86_64-linux-gnu.so", HEADER + USES, *needs)
    for name in ("_C", "_moe_C"):
        built.extension(USES, *filter(None, [flag]), name=name)
    extension = f"{built.site}/vllm/_C.abi3.so"
    facts = built.facts()
    assert first_of(facts, extension) == built.opened(extension) != ""
    finding = one(judge("undefined-symbol", facts), Severity.ERROR)
    assert re.fullmatch(
        r"vllm/_C.abi3.so and 1 more of vllm need c10::(detail::torchCheckFail|name), "
        rf"built with the {old} C\+\+ ABI, and torch 2.9.0\+cu128 with the {new} one",
        finding.summary,
    )


def test_a_library_of_cuda_s_that_is_too_old_is_named_with_what_leads_to_it(
    built: Built, tmp_path: Path
) -> None:
    """The versions of both are the same, as nvJitLink's are: it is the symbol that came later."""
    script = tmp_path / "versions"
    script.write_text("libnvJitLink.so.12 { global: *; };")
    version = f"-Wl,--version-script={script}"
    new = 'extern "C" int __nvJitLinkComplete_12_4() { return 1; }'
    old = 'extern "C" int __nvJitLinkComplete_12_1() { return 1; }'
    own = built.compile("nvidia/nvjitlink/lib/libnvJitLink.so.12", new, version)
    built.compile("old/libnvJitLink.so.12", old, version)
    use = 'extern "C" int __nvJitLinkComplete_12_4(); int f() { return __nvJitLinkComplete_12_4(); }'
    path = "-Wl,--enable-new-dtags,-rpath,$ORIGIN/../nvidia/nvjitlink/lib"
    extension = built.extension(use, own, path)
    assert built.opened(extension) == "" and isinstance(built.judged(), Passed)
    variables = {"LD_LIBRARY_PATH": f"{built.site}/old:/opt/mine"}
    facts = built.facts(**variables)
    assert first_of(facts, extension) == built.opened(extension, **variables) == "__nvJitLinkComplete_12_4"
    finding = one(judge("undefined-symbol", facts), Severity.ERROR)
    assert finding.summary == (
        "vllm/_C.abi3.so needs __nvJitLinkComplete_12_4, which old/libnvJitLink.so.12 does not have"
    )
    values = finding.remedies[0].values
    assert values == {"LD_LIBRARY_PATH": "/opt/mine"}
    assert isinstance(built.judged(**values), Passed)


# --- where the loader looks ---------------------------------------------------------------------------------


def test_what_another_extension_or_torch_keeps_for_itself_is_not_found(built: Built) -> None:
    """Python opens extensions with RTLD_LOCAL: neither sees the other, nor what torch has loaded."""
    use = 'extern "C" int shared_helper(); int g() { return shared_helper(); }'
    helper = built.extension('extern "C" int shared_helper() { return 1; }', name="_helper_C")
    needs_it = built.extension(use, name="_moe_C")
    unlinked = built.compile("vllm/_C.abi3.so", HEADER + USES)
    facts = built.facts()
    for path in (helper, needs_it, unlinked):
        assert first_of(facts, path) == built.opened(path)
    assert first_of(facts, needs_it) == "shared_helper" and "c10" in first_of(facts, unlinked)


def test_what_torch_opens_for_everyone_is_found(built: Built) -> None:
    built.compile("torch/lib/libshared.so", 'extern "C" int shared_helper() { return 1; }')
    link = [*built.link("torch/lib", "shared"), "-Wl,-rpath,$ORIGIN"]
    deps = built.compile("torch/lib/libtorch_global_deps.so", "", *link)
    extension = built.compile(
        "vllm/_C.abi3.so", 'extern "C" int shared_helper(); int g() { return shared_helper(); }'
    )
    assert opened([extension], [built.torch], [deps]) == {extension: ""}
    assert isinstance(built.judged(), Passed)


def test_a_library_that_comes_along_is_named_with_its_distribution(built: Built) -> None:
    below = built.compile(
        "vllm/below/libbelow.so", "namespace c10 { int fresh(int*); } int h() { return c10::fresh(0); }"
    )
    (built.site / "vllm-0.12.0.dist-info" / "RECORD").write_text("vllm/below/libbelow.so,sha256=x,1\n")
    extension = built.extension(USES, below, "-Wl,-rpath,$ORIGIN/below", "-Wl,--allow-shlib-undefined")
    facts = built.facts()
    assert isinstance(facts.symbols, Symbols)
    (found,) = facts.symbols.unresolved
    assert (found.distribution, found.extension) == ("vllm", extension)
    assert found.symbols[0].name == built.opened(extension)
    assert one(judge("undefined-symbol", facts)).summary.startswith("vllm/below/libbelow.so needs c10::fresh")


def test_without_a_driver_its_own_symbols_are_not_told(built: Built) -> None:
    stub = built.compile("stubs/libcuda.so.1", 'extern "C" int cuInit() { return 0; }')
    use = 'extern "C" int cuInit(); int f() { return cuInit(); }'
    built.extension(use, stub)
    os.remove(stub)
    assert isinstance(built.judged(), Passed)
    built.extension(use + NEXT, f"{built.torch}", name="_moe_C")
    assert "_moe_C.abi3.so needs c10::fresh" in one(built.judged()).summary


def test_a_missing_library_is_left_to_the_check_of_that(built: Built) -> None:
    gone = built.compile("gone/libgone.so.1", 'extern "C" int gone() { return 0; }')
    extension = built.extension('extern "C" int gone(); int f() { return gone(); }', gone)
    os.remove(gone)
    facts = built.facts()
    assert isinstance(facts.symbols, Symbols)
    assert [(each.extension, each.reason) for each in facts.symbols.untraced] == [
        (extension, "libgone.so.1 is missing")
    ]
    outcome = judge("undefined-symbol", facts)
    assert facts.symbols.traced == 1 and isinstance(outcome, Inconclusive)
    assert outcome.reason == "vllm/_C.abi3.so: libgone.so.1 is missing"
    assert isinstance(judge("shared-library-missing", facts), Failed)


def test_cannot_tell_where_the_loader_cannot_be_asked(tmp_path: Path, gxx: str) -> None:
    built = Built(tmp_path / "a folder", gxx)
    built.extension(NEXT)
    outcome = built.judged()
    assert isinstance(outcome, Inconclusive) and "a path with a space" in outcome.reason


@pytest.mark.parametrize(
    ("trace_s", "total_s", "says"), [(60, 0, "took too long"), (0.3, 60, "within 0.3 s")]
)
def test_ends_in_time(
    trace_s: float, total_s: float, says: str, built: Built, gxx: str, tmp_path: Path
) -> None:
    """A loader that hangs: a static program, for any other would be traced itself."""
    slow = tmp_path / "slow"
    source = "#include <unistd.h>\nint main() { sleep(60); }"
    subprocess.run([gxx, "-xc++", "-", "-static", "-o", str(slow)], input=source, text=True, check=True)
    facts = built.facts()
    assert isinstance(facts.objects, SharedObjects) and facts.objects.loader is not None
    loader, paths = facts.objects.loader, facts.objects.paths
    objects = structs.replace(
        facts.objects,
        loader=structs.replace(loader, path=str(slow)),
        paths={**paths, str(slow): paths.get(loader.path, loader.path)},
    )
    assert isinstance(facts.environ, Environ) and isinstance(facts.packages, Packages)
    told = symbols.probe(RealHost(), facts.environ, facts.packages, objects, trace_s=trace_s, total_s=total_s)
    assert told.traced == 0 and says in told.untraced[0].reason


# --- names --------------------------------------------------------------------------------------------------


def read_like_c_filt(path: str) -> int:
    """Compare every C++ name of a library of which anything is read; return how many these are."""
    program = shutil.which("c++filt")
    if program is None:
        _do_without("c++filt is not here")
    functions = {name: names.function(name) for name in reader.symbols(RealHost(), path, 64 << 20)[1]}
    told = [name for name, function in functions.items() if function]
    ran = subprocess.run([program], input="\n".join(told), capture_output=True, text=True, check=True)
    lines = [line.replace("[abi:cxx11]", "") for line in ran.stdout.splitlines()]
    assert not [pair for pair in zip(told, lines, strict=True) if functions[pair[0]] not in pair[1]]
    return len(told)


def test_names_are_read_as_c_filt_reads_them() -> None:
    found = cached(RealHost(), find_library("stdc++") or "libstdc++.so.6")
    if not found:
        _do_without("no libstdc++ is in the loader's cache")
    assert read_like_c_filt(found[0]) > 100


@pytest.mark.stack
def test_torch_s_names_are_read_as_c_filt_reads_them() -> None:
    for prefix in prefixes():
        count = 0
        for name in ("libc10.so", "libtorch_cpu.so"):
            count += read_like_c_filt(
                str(next(Path(prefix).glob(f"lib/python3*/site-packages/torch/lib/{name}")))
            )
        print(f"{prefix}: {count} names as c++filt has them")
        assert count > 10_000


# --- nothing is run, nothing is written ---------------------------------------------------------------------

RUNS = """
#include <fcntl.h>
#include <unistd.h>
extern "C" {
static void mark(const char* path) { close(open(path, O_CREAT | O_WRONLY, 0600)); }
__attribute__((constructor)) void begin() { mark("FOLDER/constructor"); }
static int one() { return 1; }
typedef int (*Function)();
static Function choose() { mark("FOLDER/resolver"); return one; }
int exported() __attribute__((ifunc("choose")));
static int own() __attribute__((ifunc("choose")));
Function table[] = {exported, own};
int use() { return exported() + own(); }
}
"""


def test_nothing_of_an_extension_is_run(built: Built, tmp_path: Path) -> None:
    """Neither constructors nor the resolvers of indirect functions; opening it for real runs both."""
    marks = tmp_path / "marks"
    marks.mkdir()
    # A resolver that is run before its own library is relocated may only ask the kernel.
    source = RUNS.replace("FOLDER", str(marks))
    source = (
        source.replace(
            "close(open(path, O_CREAT | O_WRONLY, 0600));",
            'long fd; __asm__ volatile("syscall" : "=a"(fd) : "0"(2L), "D"(path), "S"(0101L), "d"(0600L)'
            ' : "rcx", "r11", "memory");',
        )
        if os.uname().machine == "x86_64"
        else source
    )
    extension = built.extension(source)
    assert isinstance(built.judged(), Passed) and not os.listdir(marks)
    assert built.opened(extension) == ""
    assert sorted(os.listdir(marks)) == ["constructor", "resolver"]


PROBE = """
import sys
from cudadoctor.engine import collect, needed
from cudadoctor.host import RealHost
from cudadoctor.probes.target import Request
facts = collect(RealHost(), needed((), True, ("symbols",)), Request(prefix=sys.argv[1], deep=True))
print(facts.symbols.traced, len(facts.symbols.unresolved))
"""


def test_nothing_is_written_anywhere(built: Built, tmp_path: Path) -> None:
    strace = shutil.which("strace")
    if strace is None:
        _do_without("strace is not on PATH")
    built.extension(NEXT)
    log = tmp_path / "log"
    log.mkdir()
    command = [
        strace,
        "-ff",
        "-y",
        "-s",
        "4096",
        "-o",
        f"{log}/s",
        "-e",
        "trace=%file,clone,clone3,fork,vfork",
    ]
    wild = {"LD_DEBUG": "all", "LD_DEBUG_OUTPUT": f"{tmp_path}/debug", "LD_PROFILE": "libc10.so"}
    root = str(built.stack.root)  # active, so that no activation runs
    wild |= {"VIRTUAL_ENV": root, "PATH": f"{root}/bin:/usr/bin:/bin"}
    code = f"import os\nos.environ.update({wild!r})\n{PROBE}"
    ran = subprocess.run([*command, sys.executable, "-B", "-c", code, root], capture_output=True, text=True)
    assert ran.stdout.split() == ["2", "1"], ran.stderr[-2000:]
    paths = set(written(log, root_of(log), os.getcwd()))
    assert not {path for path in paths if not path.startswith(("/dev/", "/proc/self/"))}


# --- a real stack -------------------------------------------------------------------------------------------


def driver_stub(gxx: str, folder: Path, extensions: Sequence[str]) -> str:
    """Compile a libcuda.so.1 with every function of the driver that these need; return its folder."""
    folder.mkdir()
    wanted = {name for path in extensions for name in reader.symbols(RealHost(), path, 64 << 20)[0]}
    functions = sorted(name for name in wanted if re.match(r"cu[A-Z]", name))
    source = "\n".join(f'extern "C" int {name}() {{ return 999; }}' for name in functions)
    command = [
        gxx,
        "-xc++",
        "-",
        "-shared",
        "-fPIC",
        "-Wl,-soname,libcuda.so.1",
        "-o",
        f"{folder}/libcuda.so.1",
    ]
    subprocess.run(command, input=source, text=True, check=True)
    return str(folder)


def deep(prefix: str, **variables: str) -> Facts:
    """Return the facts of a real environment with these variables."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("LD_")}
    host = RealHost({**environ, "VIRTUAL_ENV": prefix, **variables})
    return collect(host, needed((), True, ("symbols",)), Request(prefix=prefix, deep=True))


@pytest.mark.stack
def test_every_extension_of_a_real_stack_is_judged_as_it_opens(gxx: str, tmp_path: Path) -> None:
    for number, prefix in enumerate(prefixes()):
        objects = deep(prefix).objects
        assert isinstance(objects, SharedObjects)
        extensions = [one.path for one in objects.extensions if "/torch/_C" not in one.path]
        stub = driver_stub(gxx, tmp_path / str(number), extensions)
        facts = deep(prefix, LD_LIBRARY_PATH=stub)
        mine = {path: first_of(facts, path) for path in extensions}
        theirs = opened(extensions, (), (), f"{prefix}/bin/python", True, {"LD_LIBRARY_PATH": stub})
        wrong = {path for path in extensions if mine[path] != theirs[path]}
        print(f"{prefix}: {len(extensions)} extensions and torch's own, {len(wrong)} disagreements")
        assert not wrong and isinstance(judge("undefined-symbol", facts), Passed)
        assert isinstance(judge("undefined-symbol", deep(prefix)), Passed), "without the driver"
        assert len(extensions) > 1, "those of Triton and tvm-ffi at least"


@pytest.mark.stack
@pytest.mark.parametrize(
    ("source", "flag", "says"),
    [
        (
            "namespace c10 { int fresh(int*); } int f() { return c10::fresh(0); }",
            "",
            "built for another torch",
        ),
        (USES.replace(" + c10::count(1)", ""), "-D_GLIBCXX_USE_CXX11_ABI=0", "the old C++ ABI"),
        ('extern "C" void* PyGone_New(); void* f() { return PyGone_New(); }', "", "built for another Python"),
        ('extern "C" int torch_gone(); int f() { return torch_gone(); }', "", "built for a newer one"),
    ],
)
def test_an_extension_that_a_real_torch_does_not_suit(
    source: str, flag: str, says: str, gxx: str, tmp_path: Path
) -> None:
    """It lies in an environment of links to the real one's packages, in the place of vLLM's own."""
    for number, prefix in enumerate(prefixes()):
        site = next(Path(prefix).glob("lib/python3*/site-packages"))
        mirror = tmp_path / str(number)
        own = mirror / site.relative_to(prefix)
        own.mkdir(parents=True)
        for entry in site.iterdir():
            if not re.match(r"vllm|.*\.pth$|__pycache__", entry.name):
                (own / entry.name).symlink_to(entry)
        shutil.copy(f"{prefix}/pyvenv.cfg", mirror)
        (mirror / "bin").mkdir()
        (mirror / "bin" / "python").symlink_to(os.path.realpath(f"{prefix}/bin/python"))
        (own / "vllm").mkdir()
        (own / "vllm-0.12.0.dist-info").mkdir()
        text = "Metadata-Version: 2.1\nName: vllm\nVersion: 0.12.0\n\n"
        (own / "vllm-0.12.0.dist-info" / "METADATA").write_text(text)
        extension = str(own / "vllm" / "_C.abi3.so")
        declared = HEADER.replace("std::string name();", "").replace("int count(int);", "")
        used = source.replace("return c10::count(1) + c10::name().size();", "return 1;")
        command = [gxx, "-xc++", "-", "-xnone", "-shared", "-fPIC", "-o", extension, *filter(None, [flag])]
        link = [
            f"-L{site}/torch/lib",
            "-Wl,--no-as-needed",
            "-Wl,--allow-shlib-undefined",
            "-lc10",
            "-ltorch_cpu",
        ]
        subprocess.run([*command, *link], input=declared + used, text=True, check=True)
        theirs = opened([extension], (), (), str(mirror / "bin" / "python"), True)[extension]
        facts = deep(str(mirror))
        assert first_of(facts, extension) == theirs != ""
        assert says in one(judge("undefined-symbol", facts), Severity.ERROR).summary
