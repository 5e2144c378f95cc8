"""The files: `.eqi` streams, token files, model folders. Coding itself is in `coder` and `codebook`."""
