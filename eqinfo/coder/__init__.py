"""The integer arithmetic coder, with M1 running at every byte: live windows, `ac`, and the paper's coding."""
