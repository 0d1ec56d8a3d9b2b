"""A directory of skopeo images becomes a pull-only container registry of plain files."""

__version__ = "0.1.0"
