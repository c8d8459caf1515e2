"""Straight scripts, run as files or as `class-hf NAME`, and YAML files for them."""
