"""A network line to a server that can be cut, go dead and be mended; it counts who connects."""

import contextlib
import socket
import threading


class Line:
    """Passes connections on to `target`, a port of 127.0.0.1.

    Cut, it accepts a connection and closes it at once, as a server does that is shutting down. Dead,
    it accepts and says nothing, and what was sent meanwhile arrives once it is mended.
    """

    def __init__(self, target: int) -> None:
        self.connections = 0
        self._target = target
        self._is_cut = False
        self._flows = threading.Event()
        self._flows.set()
        self._open: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=100)
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        self._is_cut = True
        self._hang_up()

    def go_dead(self) -> None:
        self._flows.clear()

    def mend(self) -> None:
        self._is_cut = False
        self._flows.set()

    def close(self) -> None:
        self._is_cut = True
        with contextlib.suppress(OSError):  # It wakes up `accept()`, which `close()` does not.
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._hang_up()
        self._flows.set()

    def _hang_up(self) -> None:
        for one in self._open:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            if self._is_cut:
                client.close()
            else:
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, socket.socket() as server:
            self._open += [client, server]
            with contextlib.suppress(OSError):
                self._flows.wait()
                server.connect(("127.0.0.1", self._target))
                back = threading.Thread(target=self._pass_on, args=(server, client), daemon=True)
                back.start()
                self._pass_on(client, server)
                back.join()

    def _pass_on(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                self._flows.wait()
                target.sendall(data)
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_WR)
