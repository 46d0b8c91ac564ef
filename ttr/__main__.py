"""``python -m ttr`` is the command ``ttr``."""

from ttr.cli import main

if __name__ == "__main__":
    main()
