"""A store on several machines: web hosts behind HAProxy, one Redis, one MariaDB, each in its place."""

import os
import signal
import subprocess
import sys
import urllib.parse
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from http.client import HTTPConnection
from http.cookies import SimpleCookie
from pathlib import Path

import MySQLdb
import psutil
from mirakuru import TCPExecutor
from MySQLdb.connections import Connection
from redis import Redis

from store.models import Product
from tests.preloaded import ROOT
from tests.processes import Server, StoreProcess, clean_environment
from tests.scale.network import Machine, Network
from tests.servers import binary, start_mysql, start_redis, temporary_folder
from tests.visitors import CSRF_TOKEN

PORT = 8000  # where deploy/haproxy.cfg looks for the web hosts, and listens itself
MYSQL_PORT, REDIS_PORT = 3306, 6379
DNS_ADDRESS = "127.0.0.11"  # Docker's, in each of its networks
PASSWORD = "secret"
BOOK = Product(pk=1)  # of the demo, which the fleet has


class Process(Server):
    """A command that runs on a machine; what it prints is appended to `log`."""

    def __init__(self, name: str, address: str, folder: Path) -> None:
        self.name, self.address, self.port = name, address, PORT
        self.log = folder / f"{name}.log"
        self.process: subprocess.Popen[bytes] | None = None

    def run(self, command: list[str], environment: Mapping[str, str]) -> None:
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                command, cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT
            )

    wait_until_open = StoreProcess.wait_until_open

    def stop(self, number: int = signal.SIGTERM) -> None:
        """Ask it to end and wait until it has."""
        if self.process:
            self.process.send_signal(number)
            self.process.wait(timeout=60)
            self.process = None

    def kill(self) -> None:
        """End it and all that it has started, without a chance to finish anything."""
        if self.process:
            family = psutil.Process(self.process.pid)
            for one in [family, *family.children(recursive=True)]:
                with suppress(psutil.NoSuchProcess):
                    one.kill()
            self.process.wait()
            self.process = None


class WebHost(Process):
    """gunicorn on a machine of its own; `start` takes what differs from the other hosts."""

    def __init__(self, machine: Machine, folder: Path, variables: Mapping[str, str]) -> None:
        super().__init__(machine.namespace.partition("-")[2], machine.address, folder)
        self.machine = machine
        self._variables = dict(variables) | {"BIND_ADDRESS": machine.address, "PORT": str(PORT)}
        self._started_with: dict[str, str] | None = None

    def start(self, **variables: str) -> None:
        """Start it and wait until it serves; `CLOCK="-300"` puts its clock 300 s behind."""
        self._started_with = variables
        command = [*self.machine.place.prefix, sys.executable, "-m", "gunicorn"]
        self.run([*command, "simple_django_redis.wsgi"], environment(self._variables | variables))
        self.wait_until_open()

    def ensure(self, **variables: str) -> None:
        """See that it runs with just these variables."""
        runs = self.process is not None and self.process.poll() is None
        if not runs or self._started_with != variables:
            self.kill()
            self.start(**variables)


class JobWorker(Process):
    """`manage.py rqworker` on a machine."""

    def __init__(
        self, name: str, machine: Machine, folder: Path, variables: Mapping[str, str]
    ) -> None:
        super().__init__(name, machine.address, folder)
        self._machine, self._variables = machine, dict(variables)

    def start(self, **variables: str) -> None:
        """Start it; `CLOCK` is as for a web host."""
        command = [*self._machine.place.prefix, sys.executable, "manage.py", "rqworker"]
        self.run(command, environment(self._variables | variables))


class Editor:
    """Somebody who is signed in to one host, and thereby to all."""

    def __init__(self, host: Server, name: str = "editor") -> None:
        form = {"username": name, "password": PASSWORD, "csrfmiddlewaretoken": CSRF_TOKEN}
        connection = HTTPConnection(host.address, host.port, timeout=30)
        connection.request(
            "POST",
            "/admin/login/",
            urllib.parse.urlencode(form),
            {
                "Cookie": f"csrftoken={CSRF_TOKEN}",
                "Content-Type": "application/x-www-form-urlencoded",
            },
        )
        response = connection.getresponse()
        assert response.status == 302, response.read()
        self.cookies = SimpleCookie()
        for header in response.headers.get_all("Set-Cookie", []):
            self.cookies.load(header)
        connection.close()


class Fleet:
    """All of it; `close` leaves nothing behind."""

    def __init__(self, hosts: int = 2) -> None:
        self._opened = ExitStack()
        try:
            self._open(hosts)
        except BaseException:
            self.close()
            raise

    def _open(self, hosts: int) -> None:
        self.folder = temporary_folder()
        self.network = Network()
        self._opened.callback(self.network.close)
        self.redis_machine, self.mysql_machine = map(self.network.add, ("redis", "mysql"))
        self.redis_server = self._start_redis()
        self.mysql_server = self._start_mysql()
        self.variables = self._variables()
        self.webs = [
            WebHost(self.network.add(f"web{number}"), self.folder, self.variables)
            for number in range(1, hosts + 1)
        ]
        for web in self.webs:
            self._opened.callback(web.kill)
        self.manage("prepare")
        user = {"DJANGO_SUPERUSER_PASSWORD": PASSWORD}
        names = ("--username=editor", "--email=editor@example.com")
        self.manage("createsuperuser", "--noinput", *names, **user)
        self._start_balancer()

    def _start_redis(self) -> TCPExecutor:
        place = self.redis_machine.place
        server = start_redis(REDIS_PORT, "--protected-mode", "no", place=place)
        self._opened.callback(server.kill)
        return server

    def _start_mysql(self) -> TCPExecutor:
        users = self.folder / "users.sql"
        users.write_text("CREATE USER IF NOT EXISTS store@'%';\nGRANT ALL ON *.* TO store@'%';\n")
        # Its own time zone must not matter.
        options = (f"--init-file={users}", "--skip-name-resolve", "--default-time-zone=+03:30")
        server = start_mysql(MYSQL_PORT, *options, place=self.mysql_machine.place)
        self._opened.callback(server.kill)
        return server

    @property
    def redis(self) -> Redis:
        return Redis(self.redis_machine.address, socket_timeout=2, retry=None)

    def database(self) -> Connection:
        """Return a connection of an administrator's, who sees what the hosts do."""
        return MySQLdb.connect(
            host=self.mysql_machine.address, user="store", database="store", autocommit=True
        )

    def manage(self, *arguments: str, **variables: str) -> str:
        """Run a command of manage.py on this machine, with the hosts' settings."""
        done = subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=ROOT,
            env=clean_environment(**self.variables, **variables),
            check=False,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def start_worker(self, name: str = "worker", beside: int = 0, **variables: str) -> JobWorker:
        """Start a worker for the jobs, on the machine of a web host."""
        worker = JobWorker(name, self.webs[beside].machine, self.folder, self.variables)
        self._opened.callback(worker.kill)
        worker.start(**variables)
        return worker

    def ensure(self, **variables: str) -> None:
        """See that all web hosts run with just these variables and nothing is cached."""
        for web in self.webs:
            web.ensure(**variables)
        self.redis.flushall()

    @contextmanager
    def forgotten(self, web: WebHost) -> Iterator[None]:
        """Keep a host's address from the balancer, from when it asks for addresses again."""
        self._name(one for one in self.webs if one is not web)
        try:
            yield
        finally:
            self._name(self.webs)

    def close(self) -> None:
        self._opened.close()

    def _name(self, webs: Iterable[WebHost]) -> None:
        self._names.write_text("".join(f"{web.address} web\n" for web in webs))
        if self.dns.process:
            self.dns.process.send_signal(signal.SIGHUP)  # dnsmasq reads it again.

    def _variables(self) -> dict[str, str]:
        return {
            "SECRET_KEY": "known to all hosts",
            "MYSQL_HOST": self.mysql_machine.address,
            "MYSQL_NAME": "store",
            "MYSQL_USER": "store",
            "REDIS_URL": f"redis://{self.redis_machine.address}:{REDIS_PORT}/0",
            "ALLOWED_HOSTS": "*",
            "TRUST_PROXY": "on",
            "THROTTLE_LOGIN": "off",
            "THROTTLE_WRITES": "off",
            "VAR_DIR": str(self.folder / "var"),
            "TMPDIR": str(self.folder),  # What killed ones leave behind goes with it.
            "DRAIN_SECONDS": "3",
        }

    def _start_balancer(self) -> None:
        machine = self.network.add("balancer")
        self._names = self.folder / "hosts"
        self.dns = Process("dns", DNS_ADDRESS, self.folder)
        self._name(self.webs)
        command = [
            str(binary("dnsmasq")),
            "--no-daemon",
            "--no-resolv",
            "--no-hosts",
            "--user=root",
        ]
        where = [
            f"--listen-address={DNS_ADDRESS}",
            "--bind-interfaces",
            f"--addn-hosts={self._names}",
        ]
        self._opened.callback(self.dns.kill)
        self.dns.run([*machine.place.prefix, *command, *where, "--pid-file="], os.environ)
        self.balancer = Process("balancer", machine.address, self.folder)
        haproxy = [str(binary("haproxy")), "-db", "-f", str(ROOT / "deploy" / "haproxy.cfg")]
        self._opened.callback(self.balancer.kill)
        self.balancer.run([*machine.place.prefix, *haproxy], os.environ)


def environment(variables: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a process with `variables`; CLOCK says how far its clock is off."""
    found = clean_environment(**variables)
    clock = found.pop("CLOCK", None)
    return found | clock_off_by(clock) if clock else found


@cache
def clock_library() -> Path:
    """Return clock.c, compiled."""
    library = temporary_folder() / "clock.so"
    source = Path(__file__).with_name("clock.c")
    subprocess.run(["cc", "-shared", "-fPIC", "-o", str(library), str(source)], check=True)
    return library


def clock_off_by(seconds: str) -> dict[str, str]:
    """Return the variables that put a process' clock so many seconds ahead or, below 0, behind."""
    return {"LD_PRELOAD": str(clock_library()), "CLOCK_OFF_BY_SECONDS": seconds}
