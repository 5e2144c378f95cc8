"""Windows of up to 20 bits: a sorted list, the parse that cuts text into them, and no M1 at run time."""
