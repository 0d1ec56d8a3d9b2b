"""The files that are generated from the catalog. Pure.

A document is a function from the catalog to parts of directories; see `plan.Part`. A new kind of file is one more.
"""
