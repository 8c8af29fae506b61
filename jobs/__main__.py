"""``python -m jobs``: the same as ``tickwork``."""

from jobs.cli import main

if __name__ == "__main__":
    main()
