"""Encodes tables of any size in shards: on this machine, or on a cluster."""
