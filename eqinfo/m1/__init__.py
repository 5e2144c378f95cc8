"""M1, the byte model: text to a model folder (`train-m1`). A trained M1 runs in `coder`."""
