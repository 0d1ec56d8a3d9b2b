"""The specifications' words. Pure: no file is opened here, and nothing else of this package is imported."""
