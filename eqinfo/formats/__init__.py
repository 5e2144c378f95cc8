"""File formats: `.eqi` streams, token files, model folders. Text is coded in `codebook` and `coder`."""
