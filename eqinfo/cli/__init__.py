"""The command line: a file for each command, and the standard streams. It computes nothing itself."""
