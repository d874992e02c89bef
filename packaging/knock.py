#!/usr/bin/env python3
"""Asks a server without pause, a new connection each time, until standard input ends: knock.py http PORT | redis PATH.

Prints how often it was answered. Ends with 1 when a connection was refused, an HTTP request was broken off, or nothing
was answered. A Redis client's connection ends when its server does, so there only refusals count."""

import select
import socket
import sys


def connect(kind, where):
    if kind == "redis":
        link = socket.socket(socket.AF_UNIX)
        link.settimeout(30)
        link.connect(where)
        return link
    return socket.create_connection(("127.0.0.1", int(where)), timeout=30)


def ask(kind, where):
    """What the server says first."""
    with connect(kind, where) as link:
        # A command without the password is answered too: with an error.
        link.sendall(b"PING\r\n" if kind == "redis" else b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        return link.recv(64)


def main():
    kind, where = sys.argv[1:]
    expected = b"-NOAUTH" if kind == "redis" else b"HTTP/1.1 "
    answered, broken, failures = 0, 0, []
    while not select.select([sys.stdin], [], [], 0)[0]:
        try:
            answer = ask(kind, where)
        except (BrokenPipeError, ConnectionResetError) as error:
            answer = str(error).encode()
            if kind == "redis":
                broken += 1
                continue
        except OSError as error:
            answer = str(error).encode()
        if answer.startswith(expected):
            answered += 1
        elif kind == "redis" and not answer:
            broken += 1
        else:
            failures.append(answer)
    print(f"{kind}: {answered} answered, {broken} broken off, {len(failures)} failed", *failures[:3])
    return 1 if failures or not answered else 0


if __name__ == "__main__":
    sys.exit(main())
