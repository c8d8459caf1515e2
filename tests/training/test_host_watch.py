"""Hosts that fall silent, are lost, or end: who is named, and when."""

import time
from threading import Event
from types import SimpleNamespace

import pytest
import torch.distributed as dist

from class_hf.training.host_watch import HostWatch, watching_hosts


class Silent:
    """A store that stops answering."""

    def __init__(self, store, fails):
        self.store, self.fails = store, fails

    def __getattr__(self, name):
        if self.fails.is_set():
            time.sleep(60)
        return getattr(self.store, name)


@pytest.fixture
def store():
    return dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)


def watches(store, timeout, fails):
    """Watches of three hosts, the last of which falls silent with `fails`, and the lines that they end with."""
    lines = [[], [], []]
    made = []
    for host in range(3):
        clone = dist.TCPStore("127.0.0.1", store.port, is_master=False)
        opened = Silent(clone, fails) if host == 2 else clone
        made.append(
            HostWatch(lambda opened=opened: opened, host, 3, timeout, f"10.0.0.{host + 1}", lines[host].append).start()
        )
    return made, lines


def wait_for(condition, seconds=30.0):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)
    return condition()


def test_every_host_names_the_silent_one(store):
    fails = Event()
    made, lines = watches(store, 1.2, fails)
    assert wait_for(lambda: all(2 in watch.names for watch in made[:2]) and made[2]._answered is not None)
    assert not any(lines)
    fails.set()
    assert wait_for(lambda: all(lines))
    for host in (0, 1):
        assert lines[host][0].startswith("host 10.0.0.3 has been silent for 1.2 s (--ddp_timeout). This host (10.0.0.")
    assert lines[2][0].startswith("host 10.0.0.1 has been silent")  # it can only say that the store is silent
    for watch in made[:2]:
        watch.stop()


def test_a_host_that_starts_later_is_not_silent(store):
    lines = []
    watch = HostWatch(lambda: store, 0, 2, 0.3, "10.0.0.1", lines.append).start()
    time.sleep(0.8)
    assert not lines and watch.silent_hosts(0.3) == []
    store.set("name 1", "10.0.0.2")
    store.set("sign 1", "1")
    assert wait_for(lambda: lines) and lines[0].startswith("host 10.0.0.2 has been silent for 0.3 s")
    watch.stop()


def test_a_host_that_is_done_is_not_silent(store):
    made, lines = watches(store, 1.2, Event())
    assert wait_for(lambda: 2 in made[0].names)
    made[2].stop()
    time.sleep(1.8)
    assert not any(lines) and made[0].silent_hosts(1.2) == []
    for watch in made[:2]:
        watch.stop()


def test_a_lost_connection_names_the_host(store, monkeypatch):
    values = {"GROUP_WORLD_SIZE": 2, "GROUP_RANK": 0, "LOCAL_RANK": 0, "MASTER_ADDR": "127.0.0.1"}
    for name, value in {**values, "MASTER_PORT": store.port}.items():
        monkeypatch.setenv(name, str(value))
    with pytest.raises(ConnectionError, match=r"host 10.0.0.2 was lost .*resume_from_checkpoint true"):
        with watching_hosts(SimpleNamespace(ddp_timeout=1)):
            raise RuntimeError("[gloo/transport/tcp/pair.cc:545] Connection closed by peer [10.0.0.2]:4321")
    with pytest.raises(RuntimeError, match="^other$"):
        with watching_hosts(SimpleNamespace(ddp_timeout=1)):
            raise RuntimeError("other")


def test_a_single_host_is_not_watched(monkeypatch):
    monkeypatch.delenv("GROUP_WORLD_SIZE", raising=False)
    with watching_hosts(SimpleNamespace(ddp_timeout=1)) as watch:
        assert watch is None
