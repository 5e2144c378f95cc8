"""Text as documents and as frames. Bytes are taken as they are: nothing is decoded or normalised."""
