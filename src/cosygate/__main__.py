"""`python -m cosygate` is the command line."""

from cosygate.cli import main

if __name__ == "__main__":
    main()
