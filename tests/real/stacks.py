"""The two real environments that the tests marked `stack` are run on, built once with uv.

    python -m tests.real.stacks d1 FOLDER       # 5 GB to download, 10 GB on disk
    python -m tests.real.stacks cu13 FOLDER     # 3 GB to download, 6 GB on disk

A folder that exists is left alone. UV_PYTHON names another interpreter than Python 3.12.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

#: What is installed, one step after another. The last step of d1 is what breaks it: no resolver puts this
#: transformers beside this vLLM, so that it comes alone, as it does after a hasty `pip install --no-deps`.
STACKS: dict[str, tuple[tuple[str, ...], ...]] = {
    "d1": (
        ("vllm==0.12.0", "torch==2.9.0", "flashinfer-python==0.5.3"),
        ("--no-deps", "transformers==4.41.2"),
    ),
    "cu13": (("torch==2.14.1", "flashinfer-python"),),
}
_PYTHON = "3.12"


def build(name: str, folder: Path) -> None:
    """Build one stack, with pip in it; raise CalledProcessError where uv fails.

    What is half built then stays, and has to be removed by hand.
    """
    uv = shutil.which("uv", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if uv is None:
        raise SystemExit("uv is needed: python -m pip install uv")
    if os.path.lexists(folder):
        raise SystemExit(f"{folder} exists: it is left as it is")
    python = os.environ.get("UV_PYTHON") or _PYTHON
    subprocess.run([uv, "venv", "--seed", "--python", python, str(folder)], check=True)
    for step in STACKS[name]:
        subprocess.run([uv, "pip", "install", "--python", f"{folder}/bin/python", *step], check=True)


def main(arguments: list[str]) -> None:
    """Build what the arguments name."""
    if len(arguments) != 2 or arguments[0] not in STACKS:
        raise SystemExit(f"usage: python -m tests.real.stacks {'|'.join(STACKS)} FOLDER")
    build(arguments[0], Path(arguments[1]).absolute())
    print(f"CUDADOCTOR_STACK={Path(arguments[1]).absolute()} python -m pytest -m stack")


if __name__ == "__main__":
    main(sys.argv[1:])
