"""Compiled loops of the codebook. `parse` and `codebook` define what they give, in plain Python."""
