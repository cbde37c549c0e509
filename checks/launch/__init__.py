"""Checks of what is to be started: they are loaded only where a launch is known, or one is named."""
