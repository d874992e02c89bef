#!/usr/bin/env python3
"""Plays the same random commands, valid and invalid, to redis-server and to Mainstay and compares every reply.

    compare_redis.py --ours unix:/path/redis.sock [--password SECRET] [--steps 20000] [--seed 1] [--resp 2]

Starts the installed redis-server in a temporary folder as the peer (or takes --peer unix:/path). Needs nothing but the
standard library. Ends with 1 at the first difference that no named exception explains, after printing what led there.
"""

import argparse
import math
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time

import compare_events
import compare_functions
import compare_makers
import compare_scripts


class Error(str):
    """An error reply."""


class Status(str):
    """A simple string."""


class Link:
    """One connection, one command at a time."""

    def __init__(self, address):
        kind, _, rest = address.partition(":")
        if kind == "unix":
            self.socket = socket.socket(socket.AF_UNIX)
            self.socket.connect(rest)
        else:
            host, _, port = rest.rpartition(":")
            self.socket = socket.create_connection((host, int(port)))
        self.socket.settimeout(20)
        self.buffer = b""

    def send(self, *args):
        parts = [b"*%d\r\n" % len(args)]
        for arg in args:
            data = arg if isinstance(arg, bytes) else str(arg).encode()
            parts.append(b"$%d\r\n%s\r\n" % (len(data), data))
        self.socket.sendall(b"".join(parts))

    def call(self, *args):
        self.send(*args)
        return self.read()

    def line(self):
        while b"\r\n" not in self.buffer:
            self.fill()
        line, _, self.buffer = self.buffer.partition(b"\r\n")
        return line

    def fill(self):
        data = self.socket.recv(1 << 16)
        if not data:
            raise EOFError("connection closed")
        self.buffer += data

    def read(self):
        line = self.line()
        kind, rest = line[:1], line[1:]
        if kind == b"+":
            return Status(rest.decode(errors="surrogateescape"))
        if kind == b"-":
            return Error(rest.decode(errors="surrogateescape"))
        if kind == b":":
            return int(rest)
        if kind == b",":
            return float(rest)
        if kind == b"(":
            return ("big number", rest)
        if kind == b"#":
            return rest == b"t"
        if kind == b"_":
            return None
        if kind in (b"$", b"="):
            size = int(rest)
            if size < 0:
                return None
            while len(self.buffer) < size + 2:
                self.fill()
            data, self.buffer = self.buffer[:size], self.buffer[size + 2 :]
            return data
        if kind in (b"*", b">", b"~"):
            size = int(rest)
            items = None if size < 0 else [self.read() for _ in range(size)]
            return ("set", items) if kind == b"~" else items if items is not None else ("null array",)
        if kind == b"%":
            return ("map", [(self.read(), self.read()) for _ in range(int(rest))])
        raise ValueError(f"unknown reply {line!r}")


# Where Mainstay differs on purpose, by the name of the difference. A difference is explained by the first that says so.
def spelled_number(args, theirs, ours):
    """Redis 7.0 prints doubles with 17 digits, 7.2 (our reference) with as few as read back the same."""
    try:
        return isinstance(theirs, bytes) and math.isclose(float(theirs), float(ours), rel_tol=1e-15)
    except (TypeError, ValueError):
        return False


def unordered(args, theirs, ours):
    """Members of hashes and sets, and keys, come in no promised order."""
    names = {"keys", "smembers", "sinter", "sunion", "sdiff", "hkeys", "hvals", "pubsub"}
    if args[0].lower() not in names or not isinstance(theirs, (list, tuple)):
        return False
    return canonical(theirs) == canonical(ours)


def pairs_unordered(args, theirs, ours):
    """As `unordered`, for lists of pairs."""
    if args[0].lower() != "hgetall" or type(theirs) is not type(ours):
        return False
    if isinstance(theirs, tuple):
        return sorted(theirs[1]) == sorted(ours[1])
    group = lambda flat: sorted(zip(flat[::2], flat[1::2]))
    return group(theirs) == group(ours)


def scanned(args, theirs, ours):
    """A cursor walks in another order and its steps have other sizes; whole walks are compared apart from this."""
    return args[0].lower() in {"scan", "hscan", "sscan", "zscan"} and isinstance(theirs, list) and isinstance(ours, list)


def newer_cursor(args, theirs, ours):
    """A negative cursor is refused since 7.2."""
    return isinstance(theirs, list) and ours == "ERR invalid cursor" and any(str(part).startswith("-") for part in args)


def moments(args, theirs, ours):
    """Two servers are asked one after the other: remaining lifetimes may differ by 100 ms or a rounded second."""
    spread = {"ttl": 1, "pttl": 100, "expiretime": 1, "pexpiretime": 100}.get(args[0].lower())
    return spread is not None and isinstance(ours, int) and abs(theirs - ours) <= spread and min(theirs, ours) >= 0


def newer(args, theirs, ours):
    """`WITHSCORE` of ZRANK and ZREVRANK came with 7.2."""
    return args[0].lower() in {"zrank", "zrevrank"} and len(args) > 3 and isinstance(theirs, Error)


def signed_zero(args, theirs, ours):
    """A score of -0 is 0 here."""
    return theirs in (b"-0", 0.0) and ours in (b"0", 0.0)


def arguments_first(args, theirs, ours):
    """Redis looks some keys up before it reads the arguments; Mainstay refuses malformed arguments whatever the key."""
    refused = isinstance(ours, Error) and ours.startswith(("ERR value is", "ERR syntax", "ERR invalid expire", "ERR min or max", "ERR Invalid stream"))
    nothing = theirs in (None, 0, -1, [], ("null array",)) or isinstance(theirs, Error) and ("WRONGTYPE" in theirs or "no such key" in theirs)
    return refused and nothing


def throttles(args, theirs, ours):
    """Redis has CL.THROTTLE only with a module."""
    known = isinstance(ours, list) and len(ours) == 5 or isinstance(ours, Error) and "unknown command" not in ours
    return args[0].lower() == "cl.throttle" and isinstance(theirs, Error) and "unknown command" in theirs and (known or ours == "QUEUED")


EXCEPTIONS = [
    arguments_first,
    spelled_number,
    compare_makers.timed,
    compare_makers.clocked,
    compare_makers.drawn,
    compare_makers.found_anyhow,
    compare_makers.stale_error,
    compare_makers.consumers_made,
    compare_makers.newer_text,
    compare_makers.newer_rule,
    unordered,
    pairs_unordered,
    scanned,
    newer_cursor,
    moments,
    newer,
    signed_zero,
    throttles,
]


def canonical(value):
    if isinstance(value, tuple):
        value = value[1]
    return sorted(value, key=repr)


def same(theirs, ours):
    if type(theirs) is not type(ours):
        return False
    if isinstance(theirs, list) and len(theirs) == len(ours):
        return all(same(a, b) or spelled_number((), a, b) or signed_zero((), a, b) for a, b in zip(theirs, ours))
    return theirs == ours


# Nothing may live for a few milliseconds, or it ends at one server first; nothing may wait for long.
TIMED = {"EXPIRE", "PEXPIRE", "SETEX", "PSETEX", "SET", "GETEX", "WAIT", "BLPOP", "BLMPOP", "BZMPOP", "XREAD", "XREADGROUP"}


class Player(compare_makers.Makers):
    """Draws commands over a small set of keys, so that types collide and values grow and vanish."""

    def __init__(self, seed, only=None):
        self.draw = random.Random(seed)
        self.only = only

    def key(self):
        draw = self.draw
        return draw.choice(["s", "l", "h", "u", "z", "x"]) + str(draw.randrange(3)) if draw.random() < 0.93 else "k0"

    def own(self, prefix):
        return prefix + str(self.draw.randrange(3)) if self.draw.random() < 0.95 else self.key()

    def value(self):
        draw = self.draw
        kind = draw.randrange(8)
        if kind < 3:
            return str(draw.randrange(12))
        if kind == 3:
            return draw.choice(["3.5", "-1", "0.1", "1e3", "9223372036854775807", "abc", "", "-0", "007", " 1", "inf"])
        if kind == 4:
            return "x" * draw.randrange(200)
        return "m" + str(draw.randrange(30))

    def number(self):
        draw = self.draw
        if draw.random() < 0.9:
            return str(draw.randrange(-6, 12))
        return draw.choice(["9223372036854775807", "-9223372036854775808", "9223372036854775808", "a", "1.5", "", "+1"])

    def score(self):
        draw = self.draw
        if draw.random() < 0.9:
            return draw.choice([str(draw.randrange(-5, 20)), str(draw.randrange(40) / 4), "0.1", "1e10", "1e-7"])
        return draw.choice(["inf", "-inf", "+inf", "nan", "x", "", "1e400", "infinity"])

    def bound(self):
        return self.draw.choice(["", "", "("]) + self.score()

    def lex(self):
        return self.draw.choice(["-", "+", "[" + self.value(), "(" + self.value(), self.value()])

    def some(self, make, most=4):
        return [make() for _ in range(self.draw.randrange(1, most + 1))]

    def maybe(self, *choices, chance=0.3):
        out = []
        for choice in choices:
            if self.draw.random() < chance:
                out += choice() if callable(choice) else [choice]
        self.draw.shuffle(out) if all(isinstance(item, str) and item.isupper() for item in out) else None
        return out

    def lifetime(self):
        draw = self.draw
        now = int(time.time())
        return draw.choice(
            [
                ["EX", draw.choice(["100", "0", "-1", "x", "9223372036854775807"])],
                ["PX", draw.choice(["100000", "0", "9223372036854775807"])],
                ["EXAT", str(now + 500)],
                ["PXAT", str((now + 500) * 1000)],
                ["EX", "1000"],
            ]
        )

    def command(self):
        d, own, v, n, sc = self.draw, self.own, self.value, self.number, self.score
        now = int(time.time())
        s, l, h, u, z = (lambda p=p: own(p) for p in "slhuz")
        makers = [
            lambda: ["SET", s(), v()] + self.maybe("NX", "XX", "GET", "KEEPTTL", self.lifetime, chance=0.15),
            lambda: ["GET", s()],
            lambda: ["GETSET", s(), v()],
            lambda: ["GETDEL", s()],
            lambda: ["GETEX", s()] + self.maybe("PERSIST", self.lifetime),
            lambda: ["SETEX", s(), d.choice(["1000", "0", "-5", "x"]), v()],
            lambda: ["PSETEX", s(), d.choice(["1000000", "0", "x"]), v()],
            lambda: ["SETNX", s(), v()],
            lambda: ["MGET"] + self.some(self.key),
            lambda: ["MSET"] + sum(([s(), v()] for _ in range(d.randrange(1, 3))), []),
            lambda: ["MSETNX"] + sum(([s(), v()] for _ in range(d.randrange(1, 3))), []),
            lambda: [d.choice(["INCR", "DECR"]), s()],
            lambda: [d.choice(["INCRBY", "DECRBY"]), s(), n()],
            lambda: ["INCRBYFLOAT", s(), d.choice(["0.1", "1", "-2.5", "3.0e3", "x", "inf", "nan", "1e-3"])],
            lambda: ["APPEND", s(), v()],
            lambda: ["STRLEN", s()],
            lambda: [d.choice(["GETRANGE", "SUBSTR"]), s(), n(), n()],
            lambda: ["SETRANGE", s(), d.choice(["0", "3", "20", "-1", "x"]), v()],
            lambda: [d.choice(["DEL", "UNLINK", "EXISTS", "TOUCH"])] + self.some(self.key),
            lambda: [d.choice(["TTL", "PTTL", "EXPIRETIME", "PEXPIRETIME", "PERSIST", "TYPE"]), self.key()],
            lambda: ["EXPIRE", self.key(), d.choice(["100", "200", "0", "-1", "x", "9223372036854775807"])]
            + self.maybe("NX", "XX", "GT", "LT", chance=0.2),
            lambda: ["PEXPIRE", self.key(), d.choice(["100000", "200000", "-1"])] + self.maybe("GT", "LT", chance=0.2),
            lambda: ["EXPIREAT", self.key(), d.choice([str(now + 300), "1", "0", "-5"])] + self.maybe("NX", "BAD", chance=0.1),
            lambda: ["PEXPIREAT", self.key(), str(now * 1000 + 300000)],
            lambda: ["KEYS", d.choice(["*", "s*", "?1", "[lh]*", "[^l]0"])],
            lambda: [d.choice(["RENAME", "RENAMENX"]), self.key(), self.key()],
            lambda: ["COPY", self.key(), self.key()] + self.maybe("REPLACE", lambda: ["DB", d.choice(["0", "1", "99", "x"])]),
            lambda: ["MOVE", self.key(), d.choice(["0", "1", "17", "x"])],
            lambda: ["SELECT", d.choice(["0", "0", "0", "1", "16", "x"])],
            lambda: ["SWAPDB", d.choice(["0", "1"]), d.choice(["0", "1", "77", "x"])],
            lambda: ["DBSIZE"],
            lambda: ["SCAN", d.choice(["0", "x", "1x"])] + self.maybe(lambda: ["COUNT", n()], lambda: ["MATCH", "s*"], lambda: ["TYPE", "hash"]),
            lambda: ["OBJECT", d.choice(["REFCOUNT", "FREQ", "BAD", "ENCODING"]), "absent"],
            lambda: ["HSET", h()] + sum(([v(), v()] for _ in range(d.randrange(1, 5))), []),
            lambda: ["HMSET", h(), v(), v()],
            lambda: ["HSETNX", h(), v(), v()],
            lambda: ["HDEL", h()] + self.some(v),
            lambda: ["HMGET", h()] + self.some(v),
            lambda: [d.choice(["HGET", "HEXISTS", "HSTRLEN"]), h(), v()],
            lambda: [d.choice(["HGETALL", "HKEYS", "HVALS", "HLEN"]), h()],
            lambda: ["HINCRBY", h(), v(), n()],
            lambda: ["HINCRBYFLOAT", h(), v(), d.choice(["0.1", "1", "-2.5", "x", "inf"])],
            lambda: ["HSCAN", h(), "0"] + self.maybe(lambda: ["COUNT", n()]),
            lambda: [d.choice(["LPUSH", "RPUSH"]), l()] + self.some(v, 8),
            lambda: [d.choice(["LPUSHX", "RPUSHX"]), l(), v()],
            lambda: [d.choice(["LPOP", "RPOP"]), l()] + self.maybe(lambda: [n()]),
            lambda: ["LLEN", l()],
            lambda: ["LINDEX", l(), n()],
            lambda: ["LRANGE", l(), n(), n()],
            lambda: ["LSET", l(), n(), v()],
            lambda: ["LINSERT", l(), d.choice(["BEFORE", "AFTER", "after", "X"]), v(), v()],
            lambda: ["LREM", l(), n(), v()],
            lambda: ["LTRIM", l(), d.choice(["0", "1", "-20", n()]), d.choice(["-1", "30", n()])],
            lambda: ["LPOS", l(), v()]
            + self.maybe(lambda: ["RANK", n()], lambda: ["COUNT", n()], lambda: ["MAXLEN", n()]),
            lambda: ["RPOPLPUSH", l(), l()],
            lambda: ["LMOVE", l(), l(), d.choice(["LEFT", "RIGHT", "X"]), d.choice(["left", "right"])],
            lambda: ["SADD", u()] + self.some(v, 6),
            lambda: ["SREM", u()] + self.some(v),
            lambda: [d.choice(["SMEMBERS", "SCARD"]), u()],
            lambda: ["SISMEMBER", u(), v()],
            lambda: ["SMISMEMBER", u()] + self.some(v),
            lambda: ["SMOVE", u(), u(), v()],
            lambda: [d.choice(["SINTER", "SUNION", "SDIFF"])] + self.some(u, 3),
            lambda: [d.choice(["SINTERSTORE", "SUNIONSTORE", "SDIFFSTORE"]), u()] + self.some(u, 3),
            lambda: ["SINTERCARD", d.choice(["1", "2", "0", "x"]), u(), u()] + self.maybe(lambda: ["LIMIT", n()]),
            lambda: [d.choice(["SPOP", "SRANDMEMBER"]), "absent"] + self.maybe(n and (lambda: [n()])),
            lambda: ["SSCAN", u(), "0"],
            lambda: ["ZADD", z()]
            + self.maybe("NX", "XX", "GT", "LT", "CH", "INCR", chance=0.12)
            + sum(([sc(), v()] for _ in range(d.choice([1, 1, 1, 2, 5]))), []),
            lambda: ["ZINCRBY", z(), sc(), v()],
            lambda: ["ZREM", z()] + self.some(v),
            lambda: [d.choice(["ZSCORE", "ZRANK", "ZREVRANK"]), z(), v()] + self.maybe("WITHSCORE", chance=0.1),
            lambda: ["ZMSCORE", z()] + self.some(v),
            lambda: ["ZCARD", z()],
            lambda: ["ZCOUNT", z(), self.bound(), self.bound()],
            lambda: ["ZLEXCOUNT", "zlex", self.lex(), self.lex()],
            lambda: [d.choice(["ZRANGE", "ZREVRANGE"]), z(), n(), n()] + self.maybe("WITHSCORES"),
            lambda: ["ZRANGE", z(), self.bound(), self.bound(), "BYSCORE"]
            + self.maybe("REV", "WITHSCORES", lambda: ["LIMIT", n(), n()]),
            lambda: ["ZRANGE", "zlex", self.lex(), self.lex(), "BYLEX"] + self.maybe("REV", lambda: ["LIMIT", n(), n()]),
            lambda: [d.choice(["ZRANGEBYSCORE", "ZREVRANGEBYSCORE"]), z(), self.bound(), self.bound()]
            + self.maybe("WITHSCORES", lambda: ["LIMIT", n(), n()]),
            lambda: [d.choice(["ZRANGEBYLEX", "ZREVRANGEBYLEX"]), "zlex", self.lex(), self.lex()]
            + self.maybe(lambda: ["LIMIT", n(), n()]),
            lambda: ["ZREMRANGEBYRANK", z(), n(), n()],
            lambda: ["ZREMRANGEBYSCORE", z(), self.bound(), self.bound()],
            lambda: ["ZREMRANGEBYLEX", "zlex", self.lex(), self.lex()],
            lambda: ["ZADD", "zlex"] + sum((["0", v()] for _ in range(4)), []),
            lambda: [d.choice(["ZPOPMIN", "ZPOPMAX"]), z()] + self.maybe(lambda: [n()]),
            lambda: [d.choice(["ZUNIONSTORE", "ZINTERSTORE"]), z(), "2", z(), d.choice([z(), u()])]
            + self.maybe(lambda: ["WEIGHTS", sc(), sc()], lambda: ["AGGREGATE", d.choice(["SUM", "MIN", "MAX", "X"])]),
            lambda: ["ZDIFFSTORE", z(), "2", z(), z()],
            lambda: [d.choice(["ZUNION", "ZINTER", "ZDIFF"]), d.choice(["1", "2", "0", "x"]), z(), z()]
            + self.maybe("WITHSCORES"),
            lambda: ["ZINTERCARD", d.choice(["1", "2", "0", "x", "9"]), z(), d.choice([z(), u()])]
            + self.maybe(lambda: ["LIMIT", n()]),
            lambda: ["ZRANGESTORE", z(), z(), n(), n()] + self.maybe("REV", "WITHSCORES", lambda: ["LIMIT", n(), n()], chance=0.1),
            lambda: ["ZRANGESTORE", z(), z(), self.bound(), self.bound(), "BYSCORE"]
            + self.maybe("REV", lambda: ["LIMIT", n(), n()]),
            lambda: ["ZRANGESTORE", "zlex", "zlex", self.lex(), self.lex(), "BYLEX"] + self.maybe("REV", chance=0.2),
            lambda: ["LCS", s(), s()] + self.maybe("IDX", "LEN", "WITHMATCHLEN", lambda: ["MINMATCHLEN", n()]),
            lambda: ["ZSCAN", z(), "0"],
            lambda: ["MULTI"],
            lambda: ["EXEC"],
            lambda: ["EXEC"],
            lambda: ["DISCARD"],
            lambda: ["WATCH"] + self.some(self.key),
            lambda: ["UNWATCH"],
            lambda: ["BLPOP", "l0", "0.01"] if d.random() < 0.05 else ["LLEN", "l0"],
            lambda: ["PING"] + self.maybe(lambda: [v()]),
            lambda: ["ECHO", v()],
            lambda: ["PUBLISH", "c", v()],
            lambda: ["PUBSUB", d.choice(["NUMPAT", "CHANNELS", "NUMSUB"])],
            lambda: ["FLUSHDB"] + self.maybe("ASYNC", "SYNC", "X") if d.random() < 0.05 else ["DBSIZE"],
            lambda: ["CLIENT", "SETNAME", d.choice(["me", "you", "not me"])],
            lambda: ["CLIENT", d.choice(["GETNAME", "GETREDIR", "UNPAUSE"])],
            lambda: ["CLIENT", "NO-EVICT", d.choice(["on", "off"])],
            lambda: ["ACL", "WHOAMI"],
            lambda: ["CONFIG", "RESETSTAT"],
            # A key that nothing else looks at: the peer does not have it.
            lambda: ["CL.THROTTLE", "absent", d.choice(["4", "-1", "x"]), d.choice(["1", "0"]), "0"],
            lambda: ["WAIT", "0", "0"],
            lambda: ["SAVE"] if d.random() < 0.05 else ["DBSIZE"],
            lambda: ["FLUSHALL"] if d.random() < 0.05 else ["DBSIZE"],
        ]
        families = [self.stream, self.bits, self.pops, self.sketches, self.places, self.sorts]
        makers = d.choice([makers] * 2 * len(families) + [make() for make in families]) if not self.only else getattr(self, self.only)()
        args = d.choice(makers)()
        # One in twenty is spoilt: an argument too few, too many, or nonsense.
        spoil = d.random()
        junk = v if args[0] not in TIMED else lambda: "nonsense"
        if spoil < 0.02:
            args = args[:-1] or args
        elif spoil < 0.035:
            args = args + [junk()]
        elif spoil < 0.05 and len(args) > 2:
            args[d.randrange(1, len(args))] = junk()
        if args[0] == "XADD" and "*" in args:
            args[1] = "clock"
        return args


def explained(args, theirs, ours):
    return next((rule.__name__ for rule in EXCEPTIONS if rule(args, theirs, ours)), None)


def walk(link, *args):
    """Everything a whole walk of the SCAN family finds."""
    cursor, found = "0", []
    while True:
        reply = link.call(args[0], *args[1:], cursor) if args[0] != "SCAN" else link.call("SCAN", cursor)
        found += reply[1]
        cursor = reply[0].decode()
        if cursor == "0":
            return sorted(set(found))


def align(theirs, ours, args, a, b):
    """Gives both the one spelling of a sum: what comes later may count its characters."""
    name = args[0].lower()
    if a == b or not isinstance(b, bytes) or name not in {"incrbyfloat", "hincrbyfloat"}:
        return
    for link in (theirs, ours):
        link.call("SET", args[1], b, "KEEPTTL") if name == "incrbyfloat" else link.call("HSET", args[1], args[2], b)


def exchange(theirs, ours):
    """Each server gets the other's values by DUMP and RESTORE; what is in them is compared by the commands that follow.

    Of a stream both have Redis' own afterwards: a consumer that read nothing is made by 7.0 and not by 7.2 (see `idle`),
    and would change sides."""
    for key in theirs.call("KEYS", "*"):
        if theirs.call("TTL", key) != -1 or ours.call("TTL", key) != -1:
            continue
        given, taken = theirs.call("DUMP", key), ours.call("DUMP", key)
        stored = ours.call("RESTORE", key, "0", given, "REPLACE")
        if ours.call("TYPE", key) == "stream":
            taken = ours.call("DUMP", key)
        payloads, replies = (given, taken), (stored, theirs.call("RESTORE", key, "0", taken, "REPLACE"))
        if replies != ("OK", "OK"):
            print(f"{key}: {payloads[0]!r} is restored with {replies[0]!r}, {payloads[1]!r} with {replies[1]!r}")
            return False
    return True


def compare(theirs, ours, player, steps):
    history, used = [], {}
    queued, inside = [], False
    for step in range(steps):
        args = player.command()
        history.append(args)
        a, b = theirs.call(*args), ours.call(*args)
        if a == "QUEUED":
            queued.append(args)
            reason = "queued" if b == "QUEUED" else None
        elif same(a, b):
            reason = "same"
        elif args[0] == "EXEC" and isinstance(a, list) and isinstance(b, list) and len(a) == len(b) == len(queued):
            bad = [q for q, x, y in zip(queued, a, b) if not same(x, y) and not explained(q, x, y)]
            reason = "parts of a transaction" if not bad else None
        else:
            reason = explained(args, a, b)
        parts = zip(queued, a, b) if reason == "parts of a transaction" else [(args, a, b)] if reason not in {None, "same"} else []
        for part, x, y in parts:
            align(theirs, ours, part, x, y)
            changed = [part[1]] if compare_makers.newer_rule(part, x, y) else []
            if compare_makers.stale_error(part, x, y) and "STORE" in part[:-1]:
                changed = [part[part.index("STORE") + 1]]
            for link, key in [(link, key) for link in (theirs, ours) for key in changed]:
                link.call("DEL", key)
        if reason in ("newer", "throttles") and b == "QUEUED":
            # One has refused the transaction by now and the other has not: it can only be given up.
            for link in (theirs, ours):
                link.call("DISCARD")
            queued, inside = [], False
        if args[0] == "EXEC" or args[0] == "DISCARD" and not (isinstance(a, Error) and "wrong number" in a) or a == "OK" and args[0] == "MULTI":
            queued = []
        if args[0] in {"MULTI", "EXEC", "DISCARD"} and "wrong number" not in str(a):
            inside = args[0] == "MULTI"
        if reason is None:
            print(f"step {step}: {args}\n  redis:    {a!r}\n  mainstay: {b!r}\nbefore it:")
            for earlier in history[-8:-1]:
                print("  ", earlier)
            return False
        used[reason] = used.get(reason, 0) + 1
        if step % 500 == 249 and not inside and not exchange(theirs, ours):
            return False
        if step % 500 == 499 and not inside:
            if walk(theirs, "SCAN") != walk(ours, "SCAN"):
                print(f"step {step}: whole walks by SCAN find different keys")
                return False
    print(f"{steps} commands, replies: " + ", ".join(f"{name} {count}" for name, count in sorted(used.items())))
    return True


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ours", required=True, help="unix:PATH or tcp:HOST:PORT of Mainstay")
    parser.add_argument("--peer", help="unix:PATH or tcp:HOST:PORT of a Redis to use; default starts one")
    parser.add_argument("--password", help="password of Mainstay")
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", help="one family alone: stream, bits, pops, sketches, places, sorts")
    parser.add_argument("--resp", choices=["2", "3"], default="2")
    options = parser.parse_args()

    folder, process = tempfile.mkdtemp(), None
    try:
        peer = options.peer
        if peer is None:
            path = os.path.join(folder, "redis.sock")
            # Debian's redis-tools holds the server's program as well, under another name; what it is called decides.
            program = shutil.which("redis-server") or shutil.which("redis-check-rdb")
            command = ["redis-server", "--port", "0", "--unixsocket", path, "--save", "", "--dir", folder]
            process = subprocess.Popen(command, executable=program, stdout=subprocess.PIPE, text=True)
            # Its log tells when the socket is there; afterwards it may fill nobody's pipe.
            if not any("accept connections at" in line for line in process.stdout):
                raise RuntimeError(f"redis-server ended with {process.wait()} before it was ready")
            threading.Thread(target=process.stdout.read, daemon=True).start()
            peer = "unix:" + path

        def connect():
            theirs, ours = Link(peer), Link(options.ours)
            if options.password:
                ours.call("AUTH", options.password)
            return theirs, ours

        theirs, ours = connect()
        if options.resp == "3":
            theirs.call("HELLO", "3")
            ours.call("HELLO", "3")
        for link in (theirs, ours):
            link.call("FLUSHALL")
            link.call("SCRIPT", "FLUSH")
        good = options.only is not None or compare_events.run(connect)
        good = options.only is not None or compare_scripts.run(theirs, ours, options.seed) and good
        good = options.only is not None or compare_functions.run(theirs, ours) and good
        for link in (theirs, ours):
            link.call("FLUSHALL")
        good = compare(theirs, ours, Player(options.seed, options.only), options.steps) and good
        return 0 if good else 1
    finally:
        if process is not None:
            process.terminate()
            process.wait()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
