"""M2, a language model whose tokens are windows: token files to a run folder (`train-m2`). It uses no M1."""
