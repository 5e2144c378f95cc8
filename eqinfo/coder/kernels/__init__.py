"""Compiled loops of the coder. The modules above define the results; nothing here does."""
