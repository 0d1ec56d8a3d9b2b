"""What is served: the tree of a site, planned from a catalog and compared with what is there. Pure."""
