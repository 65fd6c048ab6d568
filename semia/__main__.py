"""``python -m semia`` is the command ``semia``."""

from semia.cli import main

main()
