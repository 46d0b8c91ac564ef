"""A real reverse proxy with TLS and a sub-path before the page, where nginx is installed."""

from __future__ import annotations

import getpass
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
OPENSSL = shutil.which("openssl")
WITHOUT = "no nginx or openssl on this machine: apt-get install --no-install-recommends nginx openssl"
CONFIGURATION = """
user {user}; daemon off; worker_processes 1; pid {folder}/pid; error_log {folder}/error.log;
events {{ worker_connections 256; }}
http {{
  access_log off; client_max_body_size 0;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  ssl_certificate {folder}/cert.pem; ssl_certificate_key {folder}/key.pem;
  proxy_http_version 1.1; proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
  server {{  # takes the path off, hands the name on
    listen 127.0.0.1:{taken} ssl;
    location /ttr {{ return 308 /ttr/; }}
    location /ttr/ {{ proxy_pass http://127.0.0.1:{page}/; proxy_set_header Host $http_host; }}
  }}
  server {{  # leaves the path, and its own name for the page, as nginx does if nothing is said
    listen 127.0.0.1:{left} ssl;
    location /ttr {{ proxy_pass http://127.0.0.1:{page}; }}
  }}
}}
"""


def free_port() -> int:
    """Return a port that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        return found.getsockname()[1]


@contextmanager
def reverse_proxy(folder: Path, page: int, taken: int, left: int) -> Iterator[ssl.SSLContext]:
    """Run nginx before the page at port ``page`` until the block is left; yield what trusts it.

    It listens at two ports: at ``taken`` it takes ``/ttr`` off the path, at ``left`` it leaves it there.
    """
    certificate = ["-keyout", folder / "key.pem", "-out", folder / "cert.pem", "-subj", "/CN=localhost"]
    command = [OPENSSL, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *certificate]
    subprocess.run([*command, "-addext", "subjectAltName=DNS:localhost"], check=True, capture_output=True)
    configuration = folder / "nginx.conf"
    configuration.write_text(
        CONFIGURATION.format(user=getpass.getuser(), folder=folder, page=page, taken=taken, left=left)
    )
    process = subprocess.Popen([NGINX, "-p", folder, "-e", folder / "error.log", "-c", configuration])
    try:
        for port in (taken, left):
            _listens(port, process, folder / "error.log")
        yield ssl.create_default_context(cafile=str(folder / "cert.pem"))
    finally:
        process.terminate()
        process.wait(30)


def _listens(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(600):
        assert process.poll() is None, log.read_text()
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except OSError:
            time.sleep(0.05)
    raise AssertionError(f"nginx does not listen: {log.read_text()}")
