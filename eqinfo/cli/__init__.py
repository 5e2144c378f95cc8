"""What a shell user meets: one file a command, and the standard streams. It computes nothing itself."""
