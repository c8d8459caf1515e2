"""Memory of a process."""

import os

from class_hf.utils.threads import limit_shape_caches


def test_a_variable_that_is_set_keeps_its_value(monkeypatch):
    monkeypatch.setattr(os, "environ", {"LRU_CACHE_CAPACITY": "64"})
    limit_shape_caches()
    assert os.environ == {"LRU_CACHE_CAPACITY": "64", "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "16"}
