"""Measure an import of many rows by a worker: rows a second, and the memory of the process that does it.

It starts servers of its own (MariaDB or MySQL if they can be had, Redis) and leaves nothing behind.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table

from bench.cache_costs import servers

ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    parser = argparse.ArgumentParser("python -m bench.imports", description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000, help="how many (%(default)s)")
    rows: int = parser.parse_args().rows
    servers.start()
    from store import transfers  # The settings need the servers first.
    from store.models import Transfer

    subprocess.run([sys.executable, "manage.py", "prepare"], cwd=ROOT, check=True)
    command = [sys.executable, "manage.py", "rqworker", "--verbosity", "0"]
    worker = subprocess.Popen(command, cwd=ROOT, env={**os.environ, "MYSQL_TIMEOUT_SECONDS": "600"})
    table = Table("", "rows", "seconds", "rows/s", "peak memory, MB", title="Import of products")
    try:
        for what in ("into an empty store", "again, over what is there"):
            transfer = uploaded(rows)
            peak = Peak(psutil.Process(worker.pid))
            transfers.enqueue(transfer)
            while transfer.state in transfers.UNFINISHED:
                time.sleep(1)
                transfer = Transfer.objects.get(pk=transfer.pk)
            rate = transfer.rows_done / transfer.seconds
            cells = (f"{transfer.rows_done:,}", f"{transfer.seconds:.0f}", f"{rate:,.0f}")
            table.add_row(what, *cells, f"{peak.stop() / 1e6:.0f}")
    finally:
        worker.terminate()
        worker.wait()
    Console().print(table)
    for name, value in servers.describe():
        print(f"{name}: {value}")


def uploaded(rows: int):  # noqa: ANN201  # The models need the servers first.
    from store import demo, transfers
    from store.chunks import store
    from store.models import Transfer
    from store.product_csv import write

    transfer = transfers.create(Transfer.Kind.IMPORT, Transfer.State.WAITING)
    with tempfile.TemporaryFile() as file:
        file.write(b"id,name,desc,price\n")
        for number, book in enumerate(demo.varied_books(rows, seed=1), start=1):
            file.write(write([[number, book.name, book.description, book.price]]))
        file.seek(0)
        transfer.size_bytes = store(transfer, file)
    transfer.save()
    return transfer


class Peak:
    """The most memory that any child of a process, its jobs, has had since this was made."""

    def __init__(self, parent: psutil.Process) -> None:
        self._parent = parent
        self._bytes = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def stop(self) -> int:
        self._over.set()
        self._thread.join()
        return self._bytes

    def _watch(self) -> None:
        while not self._over.wait(0.1):
            for child in self._parent.children():
                try:
                    self._bytes = max(self._bytes, child.memory_info().rss)
                except psutil.Error:  # It has just ended.
                    continue


if __name__ == "__main__":
    main()
