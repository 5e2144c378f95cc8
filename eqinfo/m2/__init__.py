"""M2, a language model whose tokens are windows: token files to a run (`train-m2`). It trains no M1."""
