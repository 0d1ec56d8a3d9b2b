"""`python -m scr_export` is `scr-export`."""

from scr_export.cli import main

main()
