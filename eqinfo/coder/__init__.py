"""The integer arithmetic coder with M1 running at every byte: live windows, arithmetic codes, EqualInfoAC.

M1 is an integer network here; no M1 is trained here, and no files but `.eqm1` are read.
"""
