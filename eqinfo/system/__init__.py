"""The operating system: signals, files that appear complete, threads, machine code on disk."""
