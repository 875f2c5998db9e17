"""The command line."""

from nearedge.cli.app import main

__all__ = ["main"]
