"""Hosts on one machine: network namespaces that a bridge connects (Linux, as root)."""

import ctypes
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

_CLONE_NEWNET = 0x40000000


class Hosts:
    """Network namespaces on a bridge. Each has one interface, `eth0`, and an address.

    Args:
        count: number of hosts.
    """

    def __init__(self, count: int):
        self._name = f"ch{uuid4().hex[:6]}"  # interface names have at most 15 characters
        self._bridge = f"{self._name}b"
        self.addresses = [f"10.77.{int(self._name[2:4], 16)}.{number + 1}" for number in range(count)]

    def start(self) -> None:
        """Creates the namespaces. Raises OSError where that is not allowed."""
        _ip("link", "add", self._bridge, "type", "bridge")
        _ip("link", "set", self._bridge, "up")
        for number, address in enumerate(self.addresses):
            space, cable = self._space(number), self._cable(number)
            _ip("netns", "add", space)
            _ip("link", "add", cable, "type", "veth", "peer", "name", "eth0", "netns", space)
            _ip("link", "set", cable, "master", self._bridge, "up")
            _ip("-n", space, "addr", "add", f"{address}/24", "dev", "eth0")
            for device in ("lo", "eth0"):
                _ip("-n", space, "link", "set", device, "up")

    def enter(self, number: int) -> None:
        """Moves this thread, and the threads that it starts, to a host."""
        with open(f"/run/netns/{self._space(number)}") as space:
            if ctypes.CDLL(None, use_errno=True).setns(space.fileno(), _CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "setns failed")

    def unplug(self, number: int) -> None:
        """Cuts the link of a host. Nothing tells either side."""
        _ip("link", "set", self._cable(number), "down")

    def plug(self, number: int) -> None:
        """Restores the link of a host."""
        _ip("link", "set", self._cable(number), "up")

    def limit(self, rate: str | None) -> None:
        """Limits each link in both directions, for instance to `"100mbit"`, or removes the limit."""
        for number in range(len(self.addresses)):
            for prefix, device in (([], self._cable(number)), (["-n", self._space(number)], "eth0")):
                subprocess.run(
                    ["tc", *prefix, "qdisc", "del", "dev", device, "root"], capture_output=True, check=False
                )
                if rate is not None:
                    bucket = ["tbf", "rate", rate, "burst", "256kb", "latency", "100ms"]
                    _run("tc", *prefix, "qdisc", "add", "dev", device, "root", *bucket)

    def sent(self, number: int) -> int:
        """Bytes that a host has sent."""
        # What the host sends, its end of the cable in the bridge receives.
        return int(Path(f"/sys/class/net/{self._cable(number)}/statistics/rx_bytes").read_text())

    def end(self) -> None:
        """Removes the namespaces and the bridge."""
        for number in range(len(self.addresses)):
            subprocess.run(["ip", "netns", "del", self._space(number)], capture_output=True, check=False)
        subprocess.run(["ip", "link", "del", self._bridge], capture_output=True, check=False)

    def environment(self, number: int, port: int = 29500) -> dict[str, str]:
        """The variables that `torchrun` sets for the process of a host, one on each."""
        count = str(len(self.addresses))
        return {
            "MASTER_ADDR": self.addresses[0],
            "MASTER_PORT": str(port),
            "GLOO_SOCKET_IFNAME": "eth0",
            "RANK": str(number),
            "LOCAL_RANK": "0",
            "GROUP_RANK": str(number),
            "WORLD_SIZE": count,
            "LOCAL_WORLD_SIZE": "1",
            "GROUP_WORLD_SIZE": count,
            "ACCELERATE_USE_CPU": "true",
        }

    def _space(self, number: int) -> str:
        return f"{self._name}{number}"

    def _cable(self, number: int) -> str:
        return f"{self._name}v{number}"


@contextmanager
def network_of(count: int) -> Iterator[Hosts]:
    """Hosts during a block. Raises OSError, with the reason, where namespaces are not allowed."""
    hosts = Hosts(count)
    try:
        hosts.start()
        yield hosts
    finally:
        hosts.end()


def _ip(*words: str) -> None:
    _run("ip", *words)


def _run(*words: str) -> None:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"{' '.join(words)}: {done.stderr.strip()}")


def allowed() -> str | None:
    """Why namespaces cannot be used here, or None."""
    if os.geteuid():
        return "network namespaces need root"
    try:
        with network_of(1):
            return None
    except OSError as error:
        return f"network namespaces are not allowed here: {error}"
