"""``python -m skytwin``: the command, where it is not on the path."""

from skytwin.cli import main

if __name__ == "__main__":
    main()
