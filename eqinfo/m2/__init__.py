"""M2, the language model over windows: token files to a run folder (`train-m2`). It knows nothing of M1."""
