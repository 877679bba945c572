"""`python -m tdjax`."""

from tdjax.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
