"""SITE as a directory: observe it, lock it, read what it holds, and apply changes to it."""
