"""Hostile inputs for everything that is read from others: reports, logs and settings."""
