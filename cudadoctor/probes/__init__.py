"""One module a section of Facts. A probe takes the host, and the sections it builds on by name."""
