"""A certificate of loopback by an authority of its own, for servers that speak TLS."""

import subprocess
from pathlib import Path

EC = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")


def write(folder: Path) -> None:
    """`ca.crt`, and `server.crt` and `server.key` (PKCS 8) for 127.0.0.1 and localhost."""
    (folder / "names").write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\n")
    for words in (
        ["req", "-x509", *EC, "-keyout", "ca.key", "-out", "ca.crt", "-days", "30",
         "-subj", "/CN=lab authority"],
        ["req", *EC, "-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=localhost"],
        ["x509", "-req", "-in", "server.csr", "-CA", "ca.crt", "-CAkey", "ca.key",
         "-CAcreateserial", "-out", "server.crt", "-days", "30", "-extfile", "names"],
    ):  # fmt: skip
        subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)
