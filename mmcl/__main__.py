"""`python -m mmcl`, for torchrun and for environments without scripts on the path."""

import sys

if __name__ == "__main__":
    if not sys.flags.safe_path:
        del sys.path[0]  # the current folder, which `-m` puts there: a numpy.py in it is not ours to run
    from .cli import main

    main()
