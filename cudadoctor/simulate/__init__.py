"""Small faithful models of the machines that fail. Pure: facts in, verdict out."""
