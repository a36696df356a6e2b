"""Lets `python -m tintype` do what `tintype` does."""

from tintype.cli import main

main()
