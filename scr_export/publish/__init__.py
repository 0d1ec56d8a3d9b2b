"""Destinations: everything that changes something outside this program."""
