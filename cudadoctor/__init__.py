"""cudadoctor: says why a CUDA, torch, vLLM or FlashInfer environment will fail, before the launch."""

import os.path as _path

__version__ = "0.1.0"

# Source tree: `checks/` and `fixes/` stand beside this package, in the wheel they are inside it.
_here = _path.dirname(_path.abspath(__file__))
_root = _path.dirname(_here)
if not _path.isdir(_path.join(_here, "checks")) and _path.isfile(_path.join(_root, "pyproject.toml")):
    __path__.append(_root)
