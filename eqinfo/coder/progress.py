"""How much text the coders with M1 running have coded: for a progress bar, as a frame takes half a minute.

What this module does not do: show it (`cli.display`).
"""

import numpy as np

# Bytes coded in this process, either way; threads that count at the same moment may lose some.
CODED = np.zeros(1, np.int64)
