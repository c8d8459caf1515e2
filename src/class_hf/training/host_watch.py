"""Watches the hosts of a run: a host that is killed or falls silent ends the others, with one line that names it."""

import logging
import os
import re
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from threading import Event, Thread
from typing import Any
from uuid import uuid4

import torch.distributed as dist
from accelerate.utils import broadcast_object_list
from transformers import TrainingArguments

from class_hf.utils.messages import one_line

logger = logging.getLogger(__name__)

_LONGEST_INTERVAL = 5.0  # seconds
_DONE = "done"
_PEER = re.compile(r"\[([0-9A-Fa-f.:]+)\]:\d+")


class HostWatch:
    """Counts up a number for this host in the store of the run, and watches the numbers of the others.

    gloo notices a host whose connection is closed, but waits for one that falls silent, whatever its timeout. Two
    threads are needed: a call to the store of a silent host does not return. A host counts as silent only after it has
    given a sign.

    Args:
        open_store (`Callable`): connects to the `torch.distributed` store of the run.
        host (`int`): number of this host.
        hosts (`int`): number of hosts.
        timeout (`float`): seconds without a sign of a host after which it counts as silent.
        address (`str`): how other hosts name this one.
        on_silence (`Callable`): called once with one line. Default: prints it and ends the process with status 1.
        first_host (`str`): name of host 0, which has the store, until it has given a sign.

    Example:

    >>> store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    >>> watch = HostWatch(lambda: store, host=0, hosts=1, timeout=60, address="10.0.0.1").start()
    >>> watch.silent_hosts(60)
    []
    >>> watch.stop()
    """

    def __init__(
        self,
        open_store: Callable[[], Any],
        host: int,
        hosts: int,
        timeout: float,
        address: str,
        on_silence: Callable[[str], None] | None = None,
        first_host: str = "of machine rank 0",
    ):
        self.open_store, self.host, self.address = open_store, host, address
        self.timeout, self.interval = timeout, min(_LONGEST_INTERVAL, timeout / 6)
        self.on_silence = on_silence or _end
        self.first_host = first_host
        self.names: dict[int, str] = {}
        self._others = [number for number in range(hosts) if number != host]
        self._signs: dict[int, tuple[str, float]] = {}
        self._answered: float | None = None
        self._ended = Event()
        self._threads = [Thread(target=work, daemon=True) for work in (self._beat, self._look)]

    def start(self) -> "HostWatch":
        """Starts the threads."""
        for thread in self._threads:
            thread.start()
        return self

    def stop(self) -> None:
        """Tells the other hosts that this one is done, and ends the threads."""
        self._ended.set()
        for thread in self._threads:
            thread.join(timeout=2 * self.interval)

    def silent_hosts(self, seconds: float) -> list[str]:
        """The names of the other hosts that have given no sign for some seconds.

        While the store does not answer, only its host is named: nothing is known of the others.
        """
        now = time.monotonic()
        if self._answered is not None and now - self._answered > seconds:
            return [self.names.get(0, self.first_host)] if self.host else []
        return [
            self.names[number]
            for number, (sign, seen) in list(self._signs.items())
            if sign != _DONE and now - seen > seconds
        ]

    def _beat(self) -> None:
        """Counts up in the store, and reads the signs of the others."""
        count = 0
        try:
            store = self.open_store()
            store.set(f"name {self.host}", self.address)
            while not self._ended.is_set():
                count += 1
                store.set(f"sign {self.host}", str(count))
                self._read(store)
                self._ended.wait(self.interval)
            store.set(f"sign {self.host}", _DONE)
        except (dist.DistError, RuntimeError) as error:
            if self._answered is None and not self._ended.is_set():
                logger.warning("other hosts are not watched: the store of the run does not answer (%s).", error)
            # Otherwise the store is gone, and `_look` notices.

    def _read(self, store: Any) -> None:
        for number in self._others:
            # Without the check, `get` would wait for a host that has not started yet.
            if not store.check([f"sign {number}"]):
                continue
            self.names[number] = store.get(f"name {number}").decode()
            sign = store.get(f"sign {number}").decode()
            if number not in self._signs or sign != self._signs[number][0]:
                self._signs[number] = (sign, time.monotonic())
        self._answered = time.monotonic()

    def _look(self) -> None:
        """Ends the process when a host has been silent for too long."""
        while not self._ended.wait(self.interval):
            silent = self.silent_hosts(self.timeout)
            if silent:
                self.on_silence(
                    f"host {', '.join(silent)} has been silent for {self.timeout:g} s (--ddp_timeout). This host "
                    f"({self.address}) ends. Start all hosts again with --resume_from_checkpoint true."
                )
                return


@contextmanager
def watching_hosts(args: TrainingArguments) -> Iterator[HostWatch | None]:
    """Watches the other hosts during a block, if the launcher has started processes on several.

    One process of each host watches: when it ends, the launcher ends the others of its host. The watch uses the store
    of `torch.distributed` at `MASTER_ADDR`. All processes enter the block together.

    Args:
        args: the arguments of the run. `ddp_timeout` is the number of seconds after which a host counts as silent.

    Yields:
        The watch, or None with a single host.

    Raises:
        ConnectionError: if a host closes its connections during the block. The message names the host.
    """
    hosts = int(os.environ.get("GROUP_WORLD_SIZE", 1))
    # The store of an elastic run outlives its attempts, and the restart counts of hosts differ.
    attempt = [uuid4().hex]
    if hosts > 1 and dist.is_initialized():
        broadcast_object_list(attempt)
    if hosts < 2 or int(os.environ.get("LOCAL_RANK", 0)) or "MASTER_ADDR" not in os.environ:
        yield None
        return
    master, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])

    def open_store() -> Any:
        store = dist.TCPStore(master, port, is_master=False, timeout=timedelta(seconds=args.ddp_timeout))
        return dist.PrefixStore(f"class_hf hosts {attempt[0]}", store)

    number = int(os.environ["GROUP_RANK"])
    address = _own_address(master, port)
    watch = HostWatch(open_store, number, hosts, args.ddp_timeout, address, first_host=master).start()
    try:
        yield watch
    except RuntimeError as error:
        peer = _PEER.search(str(error))
        if peer is None:
            raise
        # A host that ends because of another one still gives signs. That which was lost does not.
        time.sleep(3 * watch.interval)
        silent = watch.silent_hosts(1.5 * watch.interval) if watch.names else []
        lost = ", ".join(silent) or peer.group(1)
        raise ConnectionError(
            f"host {lost} was lost ({one_line(error)[-80:]}). This host ({watch.address}) ends. Start all hosts "
            "again with --resume_from_checkpoint true."
        ) from error
    finally:
        watch.stop()


def _own_address(master: str, port: int) -> str:
    """The address from which this host reaches the first one."""
    with socket.socket(socket.AF_INET6 if ":" in master else socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((master, port))  # sends nothing
        return probe.getsockname()[0]


def _end(text: str) -> None:
    """Ends the process, whose main thread may wait for ever."""
    print(f"error: {text}", file=sys.stderr, flush=True)  # noqa: T201
    os._exit(1)
