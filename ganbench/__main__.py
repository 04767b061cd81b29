"""`python -m ganbench` is the command `ganbench`."""

from .cli import main

if __name__ == "__main__":
    main(prog_name="ganbench")
