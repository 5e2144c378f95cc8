"""The operating system: signals, atomic writes, threads, the cache of machine code. It knows no text."""
