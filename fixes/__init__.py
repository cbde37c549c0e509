"""One remedy, one file, one name."""
