"""IMAGES: what is there. Only reads."""
