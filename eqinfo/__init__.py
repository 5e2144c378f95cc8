"""Equal-info windows: text as windows of exactly b bits, and language models trained on them."""

__version__ = "0.1.0"
