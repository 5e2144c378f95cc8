"""Measure models and runs on a text. It trains nothing and prints nothing."""
