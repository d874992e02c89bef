"""Random commands of the families compare_redis.py plays besides the classic ones: streams, bits, HyperLogLogs, places."""


class Makers:
    """Draws commands. Keys of a family begin with its letter, so that types collide now and then."""

    def id(self):
        d = self.draw
        if d.random() < 0.85:
            return f"{max(1, getattr(self, 'moment', 0) - d.randrange(50))}-{d.randrange(3)}"
        return d.choice(["0", "5", "-", "+", "$", "0-0", "18446744073709551615-18446744073709551615", "x", "7-*", "1-", ""])

    def edge(self):
        return self.draw.choice(["-", "+", "(" + self.id(), self.id(), self.id()])

    def member(self):
        return self.draw.choice(["alice", "bob", "carol"])

    def group(self):
        return self.draw.choice(["g", "g", "g2", "none"])

    def trim(self):
        d = self.draw
        out = [d.choice(["MAXLEN", "MAXLEN", "MINID"])] + d.choice([[], ["="]])
        out += [str(d.randrange(40))] if out[0] == "MAXLEN" else [self.id()]
        return out + self.maybe(lambda: ["LIMIT", self.number()], chance=0.1)

    def stream(self):
        d, v, n = self.draw, self.value, self.number
        x = lambda: self.own("x")
        fields = lambda: d.choice([["f", v(), "g", v()], ["f", v(), "g", v()], [v(), v()], [v()]])
        member, group = self.member, self.group
        return [
            lambda: ["XADD", x()] + self.maybe("NOMKSTREAM", self.trim, chance=0.15) + [self.next_id()] + fields(),
            lambda: ["XADD", x()] + self.maybe("NOMKSTREAM", self.trim, chance=0.15) + [self.next_id()] + fields(),
            lambda: ["XADD", x()] + self.maybe("NOMKSTREAM", self.trim, chance=0.15) + [self.next_id()] + fields(),
            lambda: ["XLEN", x()],
            lambda: [d.choice(["XRANGE", "XREVRANGE"]), x(), self.edge(), self.edge()] + self.maybe(lambda: ["COUNT", n()]),
            lambda: ["XRANGE", x(), "-", "+"],
            lambda: ["XDEL", x()] + self.some(self.id),
            lambda: ["XTRIM", x()] + self.trim(),
            lambda: ["XSETID", x(), self.next_id()]
            + self.maybe(lambda: ["ENTRIESADDED", n()], lambda: ["MAXDELETEDID", self.id()], chance=0.2),
            lambda: ["XREAD"]
            + self.maybe(lambda: ["COUNT", n()], lambda: ["BLOCK", "1"], chance=0.1)
            + ["STREAMS", x(), x(), self.id(), self.id()],
            lambda: ["XGROUP", "CREATE", x(), group(), d.choice(["0", "$", self.id()])]
            + self.maybe("MKSTREAM", lambda: ["ENTRIESREAD", n()]),
            lambda: ["XGROUP", "SETID", x(), group(), d.choice(["0", "$", self.id()])]
            + self.maybe(lambda: ["ENTRIESREAD", n()]),
            lambda: ["XGROUP", "DESTROY", x(), d.choice(["g2", "none"])],
            lambda: ["XGROUP", d.choice(["CREATECONSUMER", "DELCONSUMER"]), x(), group(), member()],
            lambda: ["XREADGROUP", "GROUP", group(), member()]
            + self.maybe(lambda: ["COUNT", d.choice(["1", "2", "5", n()])], "NOACK", chance=0.4)
            + ["STREAMS", x(), d.choice([">", ">", ">", "0", self.id()])],
            lambda: ["XACK", x(), group()] + self.some(self.id),
            lambda: ["XPENDING", x(), group()],
            lambda: ["XPENDING", x(), group()]
            + self.maybe(lambda: ["IDLE", d.choice(["0", "90000000", "x"])], chance=0.2)
            + [self.edge(), self.edge(), n()]
            + self.maybe(lambda: [member()]),
            lambda: ["XCLAIM", x(), group(), member(), d.choice(["0", "90000000", "-3", "x"])]
            + self.some(self.id)
            + self.maybe(
                "FORCE", "JUSTID",
                lambda: ["RETRYCOUNT", n()],
                lambda: ["IDLE", d.choice(["0", "100", "x"])],
                lambda: ["LASTID", self.id()],
                chance=0.2,
            ),
            lambda: ["XAUTOCLAIM", x(), group(), member(), d.choice(["0", "90000000"]), self.edge()]
            + self.maybe("JUSTID", lambda: ["COUNT", n()]),
            lambda: ["XINFO", "STREAM", x()] + self.maybe(lambda: ["FULL"] + self.maybe(lambda: ["COUNT", n()])),
            lambda: ["XINFO", "GROUPS", x()],
            lambda: ["XINFO", "CONSUMERS", x(), group()],
            # Where blocks end is the same only for entries of the usual size.
            lambda: ["XADD", "xrough", "MAXLEN", "~", d.choice(["250", "30"]), self.next_id(), "f", str(d.randrange(99))],
            lambda: ["XTRIM", "xrough", d.choice(["MAXLEN", "MINID"]), "~", str(d.randrange(300))],
            lambda: ["XADD", "clock"] + self.trim() + ["*", "f", v()],
        ]

    def bits(self):
        d, n = self.draw, self.number
        s = lambda: self.own("s")
        place = lambda: d.choice(["0", "7", "8", "31", "#1", "#3", "-1", "x", "4294967296", str(d.randrange(200))])
        index = lambda: d.choice([str(d.randrange(-20, 40)), str(d.randrange(-20, 40)), n()])
        width = lambda: d.choice(["u8", "i8", "u1", "u63", "i64", "u64", "i65", "x8", "u0", d.choice("iu") + str(d.randrange(1, 64))])
        number = lambda: str(d.choice([0, 1, -1, 255, -128, 2**62, -(2**63), d.randrange(-300, 300)]))
        read = lambda: ["GET", width(), place()]
        field = lambda: d.choice(
            [
                read(),
                ["SET", width(), place(), number()],
                ["INCRBY", width(), place(), number()],
                ["OVERFLOW", d.choice(["WRAP", "SAT", "FAIL", "fail", "X"])],
            ]
        )
        return [
            lambda: ["SETBIT", s(), place(), d.choice(["0", "1", "1", "2", "x"])],
            lambda: ["GETBIT", s(), place()],
            lambda: ["BITCOUNT", s()] + self.maybe(lambda: [index(), index()] + self.maybe("BIT", "BYTE", "X"), chance=0.7),
            lambda: ["BITPOS", s(), d.choice(["0", "1", "0", "1", "2", "x"])] + [index() for _ in range(d.randrange(3))],
            lambda: ["BITPOS", s(), d.choice(["0", "1"]), index(), index()] + self.maybe("BIT", "byte", "X"),
            lambda: ["BITOP", d.choice(["AND", "OR", "xor", "NOT", "X"]), s()] + self.some(s, 3),
            lambda: ["BITFIELD", s()] + sum(self.some(field), []),
            lambda: ["BITFIELD_RO", s()] + sum(self.some(read), []),
            lambda: ["SET", s(), d.choice(["", "\x00\x00", "\x7f" * 3, "foobar"])],
            lambda: ["GET", s()],
        ]

    def pops(self):
        d, v, n = self.draw, self.value, self.number
        l, z, u, h = (lambda p=p: self.own(p) for p in "lzuh")
        count = lambda: self.maybe(lambda: ["COUNT", d.choice(["1", "2", "3", n()])], chance=0.5)
        keys = lambda make: d.choice([["1", make()], ["2", make(), make()], [n(), make(), make()]])
        drawn = lambda extra: self.maybe(lambda: [d.choice(["1", "3", "-3", n()])] + self.maybe(extra), chance=0.8)
        by = lambda: d.choice([[self.bound(), self.bound(), "BYSCORE"], [n(), n()], [n(), n()]])
        return [
            lambda: ["LMPOP"] + keys(l) + [d.choice(["LEFT", "right", "X"])] + count(),
            lambda: ["ZMPOP"] + keys(z) + [d.choice(["MIN", "max", "X"])] + count(),
            lambda: ["BLMPOP", d.choice(["0.01", "0.01", "-1", "x"])] + keys(l) + [d.choice(["LEFT", "RIGHT"])] + count(),
            lambda: ["BZMPOP", d.choice(["0.01", "0.01", "-1", "x"])] + keys(z) + [d.choice(["MIN", "MAX"])] + count(),
            lambda: ["ZRANDMEMBER", z()] + drawn("WITHSCORES"),
            lambda: ["SRANDMEMBER", u()] + drawn("X"),
            lambda: ["HRANDFIELD", h()] + drawn("WITHVALUES"),
            lambda: ["ZRANGESTORE", z(), z()] + by() + self.maybe("REV", "WITHSCORES", lambda: ["LIMIT", n(), n()], chance=0.2),
            lambda: ["ZRANGESTORE", z(), "zlex", self.lex(), self.lex(), "BYLEX"] + self.maybe("REV", lambda: ["LIMIT", n(), n()]),
            lambda: ["ZINTERCARD"] + keys(lambda: d.choice([z(), z(), u()])) + self.maybe(lambda: ["LIMIT", n()]),
            lambda: ["ZADD", z()] + sum(([self.score(), v()] for _ in range(3)), []),
            lambda: ["RPUSH", l()] + self.some(v, 8),
            lambda: ["ZRANGE", z(), "0", "-1", "WITHSCORES"],
            lambda: ["LRANGE", l(), "0", "-1"],
        ]

    def sketches(self):
        d, v = self.draw, self.value
        p = lambda: "p" + str(d.randrange(4)) if d.random() < 0.97 else self.key()
        many = lambda: [str(d.randrange(5000)) for _ in range(d.choice([1, 3, 20, 300]))]
        return [
            lambda: ["PFADD", p()] + self.maybe(many, many, chance=0.7),
            lambda: ["PFADD", p()] + self.some(v),
            lambda: ["PFCOUNT"] + self.some(p, 3),
            lambda: ["PFCOUNT", p()],
            lambda: ["PFMERGE"] + self.some(p, 3),
            lambda: ["GET", p()],
            lambda: ["DEL", p()] if d.random() < 0.1 else ["STRLEN", p()],
            lambda: ["SETRANGE", p(), str(d.randrange(16)), "x"] if d.random() < 0.05 else ["GET", p()],
        ]

    def places(self):
        d, n = self.draw, self.number
        g = lambda: "g" + str(d.randrange(3)) if d.random() < 0.97 else self.key()
        odd = lambda good, *bad: good if d.random() < 0.97 else d.choice(bad)
        longitude = lambda: odd(d.choice([f"{d.uniform(-179, 179):.6f}", f"{d.uniform(10, 18):.6f}"]), "181", "x", "nan")
        latitude = lambda: odd(d.choice([f"{d.uniform(-80, 80):.6f}", f"{d.uniform(36, 40):.6f}"]), "86", "x", "-inf")
        place = lambda: [longitude(), latitude()]
        town = lambda: "t" + str(d.randrange(60))
        unit = lambda: odd(d.choice(["m", "km", "ft", "MI"]), "yd")
        size = lambda: odd(d.choice([f"{d.uniform(0, 500):.2f}", f"{d.uniform(0, 3000):.2f}", "0"]), "-1", "x")
        start = lambda: odd(d.choice([["FROMMEMBER", town()], ["FROMLONLAT"] + place()]), [], ["FROMMEMBER"])
        area = lambda: odd(d.choice([["BYRADIUS", size(), unit()], ["BYBOX", size(), size(), unit()]]), [], ["BYBOX", "1", "m"])
        order = lambda: self.maybe("ASC", "DESC", lambda: ["COUNT", d.choice(["1", "3", n()])] + self.maybe("ANY", chance=0.1), chance=0.3)
        what = lambda: self.maybe("WITHDIST", "WITHHASH", "WITHCOORD", chance=0.3)
        store = lambda: self.maybe(lambda: [d.choice(["STORE", "STOREDIST"]), g()], chance=0.3)
        return [
            lambda: ["GEOADD", g()] + self.maybe("NX", "XX", "CH", chance=0.1) + sum((place() + [town()] for _ in range(d.randrange(1, 5))), []),
            lambda: ["GEOADD", g()] + sum((place() + [town()] for _ in range(d.randrange(1, 5))), []),
            lambda: ["GEOPOS", g()] + self.some(town),
            lambda: ["GEOHASH", g()] + self.some(town),
            lambda: ["GEODIST", g(), town(), town()] + self.maybe(unit),
            lambda: ["GEOSEARCH", g()] + start() + area() + order() + what(),
            lambda: ["GEOSEARCHSTORE", g(), g()] + start() + area() + order() + self.maybe("STOREDIST", "WITHDIST", chance=0.1),
            lambda: [d.choice(["GEORADIUS", "georadius_ro"]), g()] + place() + [size(), unit()] + order() + what(),
            lambda: [d.choice(["GEORADIUSBYMEMBER", "GEORADIUSBYMEMBER_RO"]), g(), town(), size(), unit()] + order() + what(),
            lambda: ["GEORADIUS", g()] + place() + [size(), unit()] + order() + store(),
            lambda: ["ZRANGE", g(), "0", "-1", "WITHSCORES"],
            lambda: ["ZREM", g()] + self.some(town),
        ]

    def sorts(self):
        d, v, n = self.draw, self.value, self.number
        l, u, z = (lambda p=p: self.own(p) for p in "luz")
        weigh = lambda: ["BY", d.choice(["w*", "nosort", "#", "f*->a", "*", "f*->", "w*x"])]
        get = lambda: ["GET", d.choice(["#", "w*", "f*->a", "*", "nothing"])]
        limit = lambda: ["LIMIT", d.choice(["0", "1", n()]), d.choice(["-1", "5", n()])]
        options = lambda: self.maybe("DESC", "ALPHA") + self.maybe(get, get, limit, chance=0.3)
        stored = lambda: self.maybe(weigh, chance=0.4) or self.maybe(lambda: ["STORE", l()], chance=0.1)
        return [
            lambda: ["SORT", d.choice([l(), l(), z()])] + options() + stored(),
            lambda: ["SORT", u()] + options() + stored(),
            lambda: ["SORT_RO", d.choice([l(), u(), z()])] + options() + self.maybe(weigh, chance=0.4) + self.maybe(lambda: ["STORE", l()], chance=0.03),
            lambda: ["RPUSH", l()] + [str(d.randrange(-9, 30)) for _ in range(d.randrange(1, 5))],
            lambda: ["SADD", u()] + [str(d.randrange(-9, 30)) for _ in range(d.randrange(1, 5))],
            lambda: ["ZADD", z()] + sum(([self.score(), str(d.randrange(30))] for _ in range(3)), []),
            lambda: ["SET", "w" + str(d.randrange(30)), d.choice([str(d.randrange(9)), str(d.randrange(9)), "x", "", "0.5"])],
            lambda: ["HSET", "f" + str(d.randrange(30)), "a", str(d.randrange(9))],
            lambda: ["DEL", d.choice([l(), u(), z()])],
            lambda: ["LRANGE", l(), "0", "-1"],
        ]

    def next_id(self):
        """Mostly an id behind all before it."""
        d = self.draw
        self.moment = getattr(self, "moment", 0) + d.choice([0, 0, 1])
        if d.random() < 0.85:
            return d.choice([f"{self.moment}-*", f"{self.moment + d.randrange(3)}-{d.randrange(4)}"])
        return self.id()


def timed(args, theirs, ours):
    """Idle times and moments of consumers and pending entries differ by the time between two questions."""
    name = args[0].lower()
    if name not in {"xpending", "xinfo"}:
        return False
    return near(theirs, ours)


# What only one of both tells, or tells about its own structures, or notes at more occasions since 7.2.
OWN = {b"inactive", b"idle", b"seen-time", b"active-time", b"radix-tree-nodes", b"radix-tree-keys"}


def pairs(value):
    """Names and values of a map in either version of the protocol; None when it is none."""
    if isinstance(value, tuple) and value[0] == "map":
        return value[1]
    if isinstance(value, list) and value and value[0] in (b"name", b"length"):
        return list(zip(value[::2], value[1::2]))
    return None


def near(a, b):
    if isinstance(a, int) and isinstance(b, int):
        return a == b or abs(a - b) <= 2000 and (max(a, b) > 1_000_000_000_000 or min(a, b) >= 0)
    first, second = pairs(a), pairs(b)
    if first is not None and second is not None:
        first, second = ({k: v for k, v in part if k not in OWN} for part in (first, second))
        loose = {b"pending", b"consumers", b"groups"}
        return first.keys() == second.keys() and all(
            near(first[k], second[k]) if k in loose else first[k] == second[k] for k in first
        )
    if isinstance(a, list) and isinstance(b, list):
        if len(a) == 4 and len(b) == 4 and isinstance(a[3], int):
            return a[:2] == b[:2] and near(a[2], b[2]) and a[3] == b[3]
        if len(a) == 3 and len(b) == 3 and isinstance(a[2], int):
            return a[0] == b[0] and near(a[1], b[1]) and a[2] == b[2]
        if len(a) < len(b):
            b = [consumer for consumer in b if not idle(consumer) or pairs(consumer)[0][1] in names(a)]
        return len(a) == len(b) and all(near(x, y) for x, y in zip(a, b))
    return a == b


def names(consumers):
    return [pairs(consumer)[0][1] for consumer in consumers if pairs(consumer)]


def idle(consumer):
    """A consumer that never got anything. Since 7.2 one is made by asking; before, by getting something."""
    fields = dict(pairs(consumer) or [])
    return -1 in (fields.get(b"inactive"), fields.get(b"active-time"))


def consumers_made(args, theirs, ours):
    """See `idle`."""
    return [str(part).upper() for part in args[:2]] == ["XGROUP", "CREATECONSUMER"] and (theirs, ours) == (1, 0)


def drawn(args, theirs, ours):
    """Members drawn at random: as many, of the same form."""
    if args[0].lower() not in {"zrandmember", "srandmember", "hrandfield"} or type(theirs) is not type(ours):
        return False
    return isinstance(theirs, bytes) or isinstance(theirs, list) and len(theirs) == len(ours)


def found_anyhow(args, theirs, ours):
    """Places in no promised order, those at equal distance too, and sets and equal weights that were asked not to be sorted."""
    words = {str(part).upper() for part in args}
    if not isinstance(theirs, list) or not isinstance(ours, list) or len(theirs) != len(ours):
        return False
    if args[0].upper().startswith("GEO"):
        if "ANY" in words:
            return True
        return sorted(map(repr, theirs)) == sorted(map(repr, ours))
    if args[0].upper().startswith("SORT") and "BY" in words:
        return sorted(map(repr, theirs)) == sorted(map(repr, ours)) or "LIMIT" in words
    return False


def stale_error(args, theirs, ours):
    """Redis 7.0 takes an earlier number that was out of range for one of SORT's. What is stored is deleted at both."""
    return args[0].upper().startswith("SORT") and "can't be converted" in str(theirs) and isinstance(ours, (list, int))


def clocked(args, theirs, ours):
    """Ids made of the clock."""
    return args[0].lower() == "xadd" and args[1] == "clock" and isinstance(theirs, bytes) and isinstance(ours, bytes)


def newer_text(args, theirs, ours):
    """Texts of errors that 7.2 words otherwise than 7.0."""
    old = {"ERR Unbalanced XREAD list of streams": "ERR Unbalanced 'xread' list of streams"}
    old["ERR Unbalanced XREAD list"] = "ERR Unbalanced 'xreadgroup' list"
    return any(isinstance(theirs, str) and theirs.startswith(a) and str(ours).startswith(b) for a, b in old.items())


def newer_rule(args, theirs, ours):
    """XSETID behind a deleted entry is refused since 7.2. The key is deleted at both afterwards."""
    return args[0] == "XSETID" and "max_deleted_entry_id" in str(ours) and (theirs == "OK" or "top item" in str(theirs))
