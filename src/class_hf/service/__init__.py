"""An index as an HTTP service."""
