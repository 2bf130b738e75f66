"""``python -m clipsearch``: the same as the command ``clipsearch``."""

from clipsearch.cli import main

if __name__ == "__main__":
    main()
