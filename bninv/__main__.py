"""`python -m bninv`: the same as the `bninv` command."""

from bninv.cli import main

if __name__ == "__main__":
    main()
