"""`python -m cdc` is the console script `cdc`."""

from cdc.cli import main

main()
