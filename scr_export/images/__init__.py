"""IMAGES: find image directories, follow descriptors to files, merge images into a catalog. Only reads."""
