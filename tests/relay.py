"""A TCP relay in front of a server, which counts what passes and can hold it up."""

import socket
import threading
from collections.abc import Callable


class Relay:
    """Relays connections to `port`, counting the messages to it that contain `pattern`.

    `hold(number)` is called with the number of each such message before it is passed on.
    """

    def __init__(
        self, port: int, pattern: bytes, hold: Callable[[int], object] = lambda number: None
    ) -> None:
        self.count = 0
        self._target = port
        self._pattern = pattern
        self._hold = hold
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._sockets: list[socket.socket] = []
        self.port: int = self._listener.getsockname()[1]
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)  # Closing alone would let one more in.
        self._accepting.join()
        self._listener.close()
        for one in self._sockets:
            one.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self._target))
            except OSError:
                client.close()
                continue
            self._sockets += [client, server]
            for source, target, watch in ((client, server, True), (server, client, False)):
                threading.Thread(
                    target=self._pump, args=(source, target, watch), daemon=True
                ).start()

    def _pump(self, source: socket.socket, target: socket.socket, watch: bool) -> None:
        try:
            while data := source.recv(65536):
                if watch and self._pattern in data:
                    with self._lock:
                        self.count += 1
                        number = self.count
                    self._hold(number)
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            target.close()
