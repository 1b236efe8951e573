"""Entry point of ``python -m ashneuro``."""

from ashneuro.cli import main

main()
