"""What conda calls projects that the Python package index has under another name."""

from __future__ import annotations

#: The name of the conda package, where it is not the project's own.
NAMES = {"torch": "pytorch"}
