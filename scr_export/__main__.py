"""`python -m scr_export` is `scr-export`."""

from scr_export.entry import main

main()
