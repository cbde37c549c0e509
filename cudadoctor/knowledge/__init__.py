"""Facts of the world, as rows with a source and a date. What the patient itself can tell is not here."""
