"""SITE: what shall be there, and making it so."""
