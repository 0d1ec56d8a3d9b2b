"""Safe access to files that others own: no link is followed, nothing is opened by accident, nothing is written."""
