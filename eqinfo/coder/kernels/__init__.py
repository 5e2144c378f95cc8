"""Compiled loops of the coder. `reference` defines windows in plain Python; the rest defines itself."""
