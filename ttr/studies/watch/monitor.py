"""What an operator sees of a service: whether it is healthy, and its numbers in Prometheus' text format."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer

from ttr.errors import OptionError
from ttr.studies.pacs.work import Outcome

#: Seconds that a visitor may take.
DAWDLE = 10


class Monitor:
    """The state of a service and its numbers; of images none but how many."""

    def __init__(self) -> None:
        from prometheus_client import CollectorRegistry, Counter, Gauge

        self.registry = CollectorRegistry()

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"ttr_{name}", text, labels, registry=self.registry)

        def gauge(name: str, text: str) -> Gauge:
            return Gauge(f"ttr_{name}", text, registry=self.registry)

        self._polls = counter("polls", "Polls, by how they ended.", "result")
        self._instances = counter("instances", "Instances that arrived, by what became of them.", "result")
        self._stored = counter("stored", "Instances that were stored in the archive.")
        self._waiting = gauge("waiting_batches", "Batches that are not begun.")
        self._loaded = gauge("model_loaded", "1 once the model is loaded.")
        self._healthy = gauge("healthy", "1 while the model is loaded and the last poll worked.")
        self._last = gauge("last_poll_timestamp_seconds", "When a poll last worked, in Unix time.")
        self._waits, self.state = True, "the model is being loaded"

    @property
    def healthy(self) -> bool:
        """Whether the model is loaded and the last poll worked."""
        return not self.state

    def loaded(self) -> None:
        """The model is loaded."""
        self._loaded.set(1)
        self._waits = False
        self._is("there was no poll yet")

    def polled(self, worked: bool) -> None:
        """A poll is over, with all that it brought."""
        self._polls.labels("worked" if worked else "failed").inc()
        if worked:
            self._last.set_to_current_time()
        if not self._waits:
            self._is("" if worked else "the last poll failed; the log says why")

    def waiting(self, batches: int) -> None:
        """So many batches are not begun."""
        self._waiting.set(batches)

    def finished(self, outcome: Outcome, instances: int) -> None:
        """A batch of so many instances is over."""
        failed, ours = len(outcome.failed), len(outcome.ours)
        for result, count in (("done", instances - failed - ours), ("failed", failed), ("ours", ours)):
            self._instances.labels(result).inc(count)
        self._stored.inc(outcome.stored)

    def refused(self, count: int) -> None:
        """So many files arrived, or were listed, that are no instance that can be read."""
        self._instances.labels("failed").inc(count)

    def _is(self, state: str) -> None:
        self.state = state
        self._healthy.set(not state)

    @contextmanager
    def served(self, host: str, port: int) -> Iterator[int]:
        """Serve ``/healthz`` and ``/metrics`` meanwhile; yield the port, a free one for 0.

        Raises:
            OptionError: nobody can listen there.
        """
        handler = type("Handler", (_Handler,), {"monitor": self})
        try:
            server = _Server((host, port), handler)
        except (OSError, OverflowError) as error:
            why = getattr(error, "strerror", None) or str(error)
            raise OptionError(f"cannot listen on {host}, port {port} ({why}); choose another") from None
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True).start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            server.server_close()


class _Server(ThreadingHTTPServer):
    """Listens without asking the network what its address is called."""

    daemon_threads = True

    def server_bind(self) -> None:
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]


class _Handler(BaseHTTPRequestHandler):
    """Answers two questions, and says nothing of itself."""

    monitor: Monitor
    timeout = DAWDLE
    server_version, sys_version = "ttr", ""

    def do_GET(self) -> None:
        """Answer."""
        from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

        path = self.path.partition("?")[0]
        if path == "/healthz":
            state = self.monitor.state
            self._say(503 if state else 200, "text/plain; charset=utf-8", f"{state or 'healthy'}\n".encode())
        elif path == "/metrics":
            self._say(200, CONTENT_TYPE_LATEST, generate_latest(self.monitor.registry))
        else:
            self._say(404, "text/plain; charset=utf-8", b"there are /healthz and /metrics\n")

    def do_HEAD(self) -> None:
        """Answer without the text, as balancers ask."""
        self.do_GET()

    def log_message(self, format: str, *args: object) -> None:
        """Log no visits."""

    def _say(self, status: int, kind: str, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)
