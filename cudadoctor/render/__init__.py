"""Reports in the forms that people read: plain text for a terminal, Markdown for a ticket."""
