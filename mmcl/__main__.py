"""`python -m mmcl`, for torchrun and for environments without scripts on the path."""

from .cli import main

if __name__ == "__main__":
    main()
