"""nginx in front of a server, as most put it there; where it is not installed its rows are left out."""

import os
import tempfile
from pathlib import Path

from bench.strategies.processes import Process
from tests.servers import binary, free_port

CONFIGURATION = """
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log stderr crit;
events {{ worker_connections 256; }}
http {{
  access_log off;
  client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};
  uwsgi_temp_path {folder}; scgi_temp_path {folder};
  upstream store {{ server 127.0.0.1:{upstream}; keepalive 16; }}
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://store;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Host $http_host;
    }}
  }}
}}
"""


def is_installed() -> bool:
    return binary("nginx") is not None


class Proxy(Process):
    """An nginx that passes requests on to `upstream`, a port of 127.0.0.1, on open connections."""

    def __init__(self, upstream: int) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        folder = Path(tempfile.mkdtemp(prefix="store-"))
        path = folder / "nginx.conf"
        path.write_text(CONFIGURATION.format(folder=folder, upstream=upstream, port=self.port))
        super().__init__([str(binary("nginx")), "-c", str(path)], dict(os.environ), folder)
