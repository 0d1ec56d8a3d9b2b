"""A bucket: the objects of an S3 store that make a registry, behind a front that serves them."""
