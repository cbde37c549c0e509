"""Raises while it is imported."""

raise ImportError("needs a library that is not installed")
