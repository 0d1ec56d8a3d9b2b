"""A bundle: a site, or what is new in it, as one tar for a disk."""
