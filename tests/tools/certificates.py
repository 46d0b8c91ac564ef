"""A certificate that nobody vouches for but itself, where openssl is installed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

OPENSSL = shutil.which("openssl")
WITHOUT = "no openssl on this machine: apt-get install --no-install-recommends openssl"


def self_signed(folder: Path, name: str = "IP:127.0.0.1") -> tuple[Path, Path]:
    """Write a certificate of a name and its key; return the file with both, and the certificate alone."""
    key, certificate, both = folder / "key.pem", folder / "cert.pem", folder / "both.pem"
    command = [OPENSSL, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=test"]
    command += ["-keyout", key, "-out", certificate, "-addext", f"subjectAltName={name}"]
    subprocess.run(command, check=True, capture_output=True)
    both.write_bytes(key.read_bytes() + certificate.read_bytes())
    return both, certificate
