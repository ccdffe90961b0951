"""Who a process is, among others of its kind on this machine and on others."""

import os
import secrets
import socket


def identity() -> str:
    """Of its own for each call: a process that was started again is another one."""
    return f"{socket.gethostname()}_{os.getpid()}_{secrets.token_hex(4)}"
