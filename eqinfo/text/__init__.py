"""What a file is; text as documents and as frames. Text is bytes, which are never normalised."""
