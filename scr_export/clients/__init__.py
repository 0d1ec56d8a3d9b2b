"""Configuration files that make clients pull from a site: functions from a mirror to files. Pure; imports oci only."""
