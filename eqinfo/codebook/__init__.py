"""Windows of up to 20 bits: a sorted list of byte strings, and the parse that cuts text into them.

No M1 runs here, and no windows are chosen here: `m1` makes codebooks.
"""
