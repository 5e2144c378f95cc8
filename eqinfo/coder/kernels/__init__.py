"""Compiled loops of the coder. The modules above define what they give, in plain Python."""
