"""Measuring this executor beside its rivals, on one machine or through a cluster's gateway."""
