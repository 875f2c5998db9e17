"""``python -m nearedge``: the ``nearedge`` program where its script is not on the path, as in a job from a checkout."""

from nearedge.cli import main

if __name__ == "__main__":
    main()
