"""`python -m eqinfo` is `eqinfo`."""

from eqinfo.cli import main

if __name__ == "__main__":
    main()
