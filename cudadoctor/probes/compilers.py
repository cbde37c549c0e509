"""The host compilers, who uses which, and where each makes the linker look.

The search order is asked of the driver itself: `-###` prints the linker's command line without running it
(and shows what specs files add), `-print-search-dirs` with a marker in LIBRARY_PATH shows the forms in which
GCC looks into each of its entries, and `ld --verbose` prints the folders built into the linker.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence

from cudadoctor.bounded import Call
from cudadoctor.facts import Compiler, Compilers, CompilerUse, Environ, LinkSearch, Packages
from cudadoctor.host import Host, Ran, which
from cudadoctor.simulate.linker import LINKERS_OWN

_MARK = "/.cudadoctor"
_TIMEOUT_S = 5.0
_EMULATIONS = {"elf_x86_64": ("x86_64", 64), "elf_i386": ("i386", 32), "elf32_x86_64": ("x86_64", 32)}
_USUAL_EMULATION = {"x86_64": "elf_x86_64", "aarch64": "aarch64linux"}
_GCC_DRIVER = re.compile(r"(?:gcc|g\+\+)(?:-[\d.]+)?$")
_LINKER_FLAGS = {"gold": "ld.gold", "bfd": "ld.bfd", "lld": "ld.lld", "mold": "ld.mold"}


class _Questions:
    """What is asked of compilers and linkers: each question once, all of them at the same time."""

    def __init__(self, host: Host, variables: Mapping[str, str]) -> None:
        self.host, self._variables = host, variables
        self._calls: dict[tuple[str, ...], Call[Ran]] = {}

    def begin(self, *argv: str, library_path: str | None = None) -> Call[Ran]:
        """Start a program, or join the same question asked before; LIBRARY_PATH is unset by default."""
        key = (*argv, library_path or "")
        if key not in self._calls:
            variables = {name: value for name, value in self._variables.items() if name != "LIBRARY_PATH"}
            if library_path is not None:
                variables["LIBRARY_PATH"] = library_path
            self._calls[key] = Call(lambda: self.host.run(argv, variables, timeout_s=_TIMEOUT_S))
        return self._calls[key]

    def dry(self, argv: Sequence[str]) -> Call[Ran]:
        """Ask a driver for the linker's command line, with a folder of ours on it to show its place."""
        return self.begin(*argv, "-###", "-fno-use-linker-plugin", "-shared", "/dev/null", f"-L{_MARK}")

    def search_dirs(self, argv: Sequence[str]) -> Call[Ran]:
        """Ask GCC in which forms, and at which places of its order, it looks into LIBRARY_PATH."""
        return self.begin(*argv, "-print-search-dirs", library_path=_MARK)


def probe(host: Host, environ: Environ, packages: Packages) -> Compilers:
    """Return each compiler that some consumer of this target will start."""
    uses = tuple(_uses(host, environ, packages))
    questions = _Questions(host, child_environ(host, environ))
    first: dict[str, str] = {}
    drivers = {command: _driver(host, command, environ, first) for command in (use.command for use in uses)}
    linking = {use.command for use in uses if use.job != "device"}
    for command, argv in drivers.items():
        if isinstance(argv, list):
            questions.dry(argv)
            if command in linking:
                questions.search_dirs(argv)
    # Nearly every link here ends in this one; the folders built into it are known when they are needed.
    if (ld := which(host, "ld", environ.path)) and linking:
        questions.begin(host.realpath(ld), "-m", _USUAL_EMULATION.get(host.uname()[2], ""), "--verbose")
    found = {
        command: _compiler(questions, command, argv, environ, command in linking)
        for command, argv in drivers.items()
    }
    return Compilers({use.command: found[use.command] for use in uses}, uses)


def _driver(host: Host, command: str, environ: Environ, first: dict[str, str]) -> list[str] | str:
    """Return the words that start a compiler, or why it cannot be started.

    Names that lead to one and the same GCC driver (c++, g++) are asked once, by the `first` of them. Not
    through ccache and the like, nor clang, which tell by the name they are called by what they are.
    """
    try:
        words = shlex.split(command)
    except ValueError as error:
        return f"cannot be split into words: {error}"
    path = which(host, words[0], environ.path) if words else ""
    if not path:
        return "not found on PATH" if words else "empty"
    real = host.realpath(path)
    return [first.setdefault(real, path) if _GCC_DRIVER.search(real) else path, *words[1:]]


def child_environ(host: Host, environ: Environ) -> dict[str, str]:
    """Return the variables for a child that shall see what the target's programs will see."""
    variables = {**host.environ, **{name: v.value for name, v in environ.variables.items()}, "LC_ALL": "C"}
    variables["PATH"] = ":".join(environ.path)
    return variables


def _uses(host: Host, environ: Environ, packages: Packages) -> Iterator[CompilerUse]:
    cxx, cxx_rule = (environ.get("CXX") or "c++"), ("CXX" if environ.get("CXX") else "the default, c++")
    device, device_rule = _device_compiler(environ)
    if host.kind(device) == "directory":  # nvcc takes a folder, too, and starts the g++ in it
        device = f"{device.rstrip('/')}/g++"
    for consumer in ("flashinfer", "torch", "tvm-ffi"):
        yield CompilerUse(consumer, "link", cxx, cxx_rule)
    for consumer in ("flashinfer", "torch"):
        command, rule = device, device_rule
        if environ.get("CC") and not _appended_ccbin(environ):
            command, rule = environ.get("CC") or "", "CC, which it hands to nvcc as -ccbin"
        yield CompilerUse(consumer, "device", command, rule)
    yield CompilerUse(
        "cmake",
        "device",
        environ.get("CUDAHOSTCXX") or cxx,
        "CUDAHOSTCXX" if environ.get("CUDAHOSTCXX") else cxx_rule,
    )
    if packages.triton is not None:
        yield CompilerUse("triton", "stub", *_triton_compiler(host, environ))


def _appended_ccbin(environ: Environ) -> str:
    return _ccbin(environ.get("NVCC_APPEND_FLAGS") or "")


def _device_compiler(environ: Environ) -> tuple[str, str]:
    """Return the host compiler that nvcc starts by itself, and by what rule; its last -ccbin wins."""
    if found := _appended_ccbin(environ):
        return found, "-ccbin in NVCC_APPEND_FLAGS"
    if found := _ccbin(environ.get("NVCC_PREPEND_FLAGS") or ""):
        return found, "-ccbin in NVCC_PREPEND_FLAGS"
    if named := environ.get("NVCC_CCBIN"):
        return named, "NVCC_CCBIN"
    return "g++", "nvcc's default, g++ on PATH"


def _ccbin(flags: str) -> str:
    matches = re.findall(r"(?:^|\s)(?:-ccbin|--compiler-bindir)[=\s]\s*(\S+)", flags)
    return matches[-1] if matches else ""


def _triton_compiler(host: Host, environ: Environ) -> tuple[str, str]:
    """Apply Triton's own order: CC, then gcc, then clang."""
    if (command := environ.get("CC")) is not None:
        return command, "CC"
    for name in ("gcc", "clang"):
        if which(host, name, environ.path):
            return name, f"{name} on PATH"
    return "gcc", "gcc or clang on PATH"


def _compiler(
    questions: _Questions, command: str, argv: list[str] | str, environ: Environ, linking: bool
) -> Compiler:
    if isinstance(argv, str):
        return Compiler(command, "", problem=argv)
    path = which(questions.host, shlex.split(command)[0], environ.path)
    dry = questions.dry(argv).result()
    if dry.problem or dry.timed_out or not (told := _identity(dry.stderr)):
        reason = dry.problem or ("did not answer in time" if dry.timed_out else _first_line(dry.stderr))
        return Compiler(command, path, problem=reason or f"exit status {dry.status} without a word")
    family, version, _ = told
    search = _search(questions, argv, told, dry.stderr, environ) if linking else None
    return Compiler(command, path, family, version, search)


def _first_line(text: str) -> str:
    return next((line.strip() for line in text.splitlines() if line.strip()), "")


def _identity(text: str) -> tuple[str, str, str] | None:
    triple = re.search(r"^Target: (\S+)", text, re.MULTILINE)
    if match := re.search(r"^gcc version (\S+)", text, re.MULTILINE):
        return "gcc", match[1], triple[1] if triple else ""
    if match := re.search(r"clang version (\d[\d.]*)", text):
        return "clang", match[1], triple[1] if triple else ""
    if match := re.search(r"^nvc\+*(?:-Fortran)? (\d[\d.]*)", text, re.MULTILINE):
        return "nvc++", match[1], triple[1] if triple else ""
    return None


def _search(
    questions: _Questions, argv: list[str], told: tuple[str, str, str], dry: str, environ: Environ
) -> LinkSearch | None:
    """Put the linker's whole search order together; None where the driver did not show its command."""
    family, _, triple = told
    line = next((text for text in reversed(dry.splitlines()) if text.startswith(" ") and _MARK in text), "")
    words = _words(line)
    if not words:
        return None
    shown = _folders_of(words)
    linker = _linker(questions.host, words, environ)
    builtin, sysroot = _builtin(questions, linker, words), _option(words, "--sysroot")
    machine, bits = _emulation(words, triple)
    before, after = shown[: shown.index(_MARK)], shown[shown.index(_MARK) + 1 :]
    if family == "gcc":
        answer = questions.search_dirs(argv).result().stdout
        match = re.search(r"^libraries: =?(.*)$", answer, re.MULTILINE)
        forms = match[1].split(":") if match else []
        after = _weave(after, [_template(entry) for entry in forms if entry not in LINKERS_OWN])
    else:
        after = [*after, "{LIBRARY_PATH}"]
    builtin = [_under(sysroot, entry) for entry in builtin]
    entries = (*before, "{-L}", *after, *builtin)
    return LinkSearch(entries, linker, machine, bits, single_pass=family != "gcc")


def _folders_of(words: list[str]) -> list[str]:
    """Return the -L folders of a linker's command line, in either spelling."""
    pairs = zip(words, [*words[1:], ""], strict=True)
    return [word[2:] or following for word, following in pairs if word.startswith("-L")]


def _weave(shown: list[str], forms: list[str]) -> list[str]:
    """Put the forms for LIBRARY_PATH at their places among the folders that GCC showed without it.

    `forms` has GCC's own folders in the same order, with those that do not exist; `shown` may have more,
    from a specs file, before, between or behind.
    """
    woven: list[str] = []
    at = end = 0
    for place, folder in enumerate(shown):
        if folder in forms[at:]:
            at, end = forms.index(folder, at) + 1, place + 1
    at = 0
    for place, folder in enumerate(shown):
        if folder in forms[at:]:
            through = forms.index(folder, at) + 1
            woven += forms[at:through]
            at = through
        else:
            woven.append(folder)
        if place + 1 == end:
            woven += forms[at:]
            at = len(forms)
    return woven + forms[at:]


def _words(line: str) -> list[str]:
    try:
        return shlex.split(line)
    except ValueError:
        return []


def _template(entry: str) -> str:
    entry = entry[:-1] if len(entry) > 1 and entry.endswith("/") else entry
    return entry.replace(_MARK, "{LIBRARY_PATH}", 1) if entry.startswith(_MARK) else entry


def _option(words: list[str], name: str) -> str:
    for word, following in zip(words, [*words[1:], ""], strict=True):
        if word.startswith(f"{name}="):
            return word.partition("=")[2]
        if word == name:
            return following
    return ""


def _emulation(words: list[str], triple: str) -> tuple[str, int]:
    """Return machine and bits of the output: as `-m` says, in either spelling, else the compiler's own."""
    for name in (_option(words, "-m"), *(word[2:] for word in words if word.startswith("-m"))):
        if name.startswith("aarch64"):
            return "aarch64", 64
        if name in _EMULATIONS:
            return _EMULATIONS[name]
    machine = triple.partition("-")[0]
    return ("i386", 32) if re.fullmatch(r"i[3-6]86", machine) else (machine, 64)


def _linker(host: Host, words: list[str], environ: Environ) -> str:
    """Return the linker that the shown command would start."""
    program = words[0]
    if not program.endswith("collect2"):
        return program
    flavour = next((word.rpartition("=")[2] for word in words if word.startswith("-fuse-ld=")), "")
    name = _LINKER_FLAGS.get(flavour, "ld")
    beside = program.rpartition("/")[0]
    triple = beside.split("/gcc/")[-1].split("/")[0] if "/gcc/" in beside else ""
    prefix = beside.split("/lib")[0]
    for candidate in (f"{beside}/{name}", f"{prefix}/{triple}/bin/{name}", f"{prefix}/bin/{triple}-{name}"):
        if triple and host.executable(candidate):
            return candidate
    return which(host, name, environ.path)


def _builtin(questions: _Questions, linker: str, words: list[str]) -> list[str]:
    """Return the folders built into the linker, as its default script lists them."""
    if "gold" in linker:
        return ["/lib", "/usr/lib"]
    if not linker or "lld" in linker or "mold" in linker:
        return []
    emulation = _option(words, "-m")
    flags = ("-m", emulation) if emulation else ()
    script = questions.begin(questions.host.realpath(linker), *flags, "--verbose").result().stdout
    return re.findall(r'SEARCH_DIR\("([^"]+)"\)', script)


def _under(sysroot: str, entry: str) -> str:
    return f"{sysroot.rstrip('/')}{entry[1:]}" if entry.startswith("=") else entry
