"""What a file is; text as documents and as frames. Text is bytes: it is never decoded or normalised here."""
