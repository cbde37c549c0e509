"""Packages as a step: which installer brings them to an environment, what it did there, and the way back.

An installer is the environment's own: conda's client for a conda prefix, uv for what uv made, pip for the
rest. Where its work would not last, or is not wanted, the plan is `choice.Refused` and says what the user can
do instead. Import from the module that has what you need: planning loads `choice` and starts nothing.
"""
