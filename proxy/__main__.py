"""`python -m proxy`: the same as `tollway`."""

from proxy.cli import main

if __name__ == "__main__":
    main()
