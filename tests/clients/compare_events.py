"""Keyspace notifications: the same commands to Redis and to Mainstay, and every event that comes of them compared."""


# One step a line, its commands separated by semicolons. What a step does is told by its events, so each is a trap of its own.
STEPS = """
SET s 1
SET s 2
SET s 3 EX 1000
SET s 4 KEEPTTL
SET s 5 XX GET
SET s 6 NX
GET s
GET absent
SETEX s 1000 v
PSETEX s 100000 v
SETNX new 1
SETNX new 2
GETSET s 7
GETEX s EX 1000
GETEX s PERSIST
GETEX s EXAT 1
GETDEL new
GETDEL new
MSET a 1 b 2
MSETNX a 1 c 2
MSETNX c 1 d 2
MGET a absent b
INCR a
DECRBY a 5
INCRBY fresh 5
INCRBYFLOAT a 0.5
INCRBYFLOAT f 0.5
APPEND a x
APPEND ap x
SETRANGE a 2 zz
SETRANGE sr 2 zz
SETRANGE absent 0
SETBIT bits 7 1
SETBIT bits 7 1
BITFIELD bits SET u8 0 200 SET u8 8 100 INCRBY u8 16 3
BITFIELD bits SET u8 0 200 SET u8 8 100
BITFIELD bits GET u8 0
BITFIELD bits OVERFLOW FAIL INCRBY u8 0 100
BITFIELD bits OVERFLOW FAIL INCRBY u8 0 100 INCRBY u8 8 1 GET u8 0
BITFIELD longer OVERFLOW FAIL INCRBY u2 100 9
BITFIELD longer SET u8 200 0
BITFIELD_RO bits GET u8 0
BITOP NOT bits2 bits
BITOP AND bits2 absent absent
DEL bits longer
STRLEN absent
GETRANGE absent 0 1
EXISTS absent a
TYPE absent
TTL absent
TOUCH absent
OBJECT ENCODING absent
EXPIRE a 1000
EXPIRE a 500 GT
EXPIRE absent 5
PEXPIREAT b 1
EXPIRE c -1
PERSIST a
PERSIST a
RENAME a a2
RENAME a2 f
RENAMENX f ap
RENAMENX f f2
RENAME f2 f2
COPY f2 f3
COPY f2 f3
COPY f2 f3 REPLACE
MOVE f3 1
DEL absent ap d
UNLINK sr fresh
LPUSH l a b
RPUSH l c
LPUSHX l x
LPUSHX absent x
RPUSHX l y
LINSERT l BEFORE a q
LINSERT l BEFORE missing q
LINSERT absent BEFORE a q
LSET l 0 z
LREM l 0 z
LREM l 0 missing
LRANGE absent 0 -1
LLEN absent
LPOP l
RPOP l 1
LPOP l 0
LPOP absent
RPOPLPUSH l l2
LMOVE l l2 LEFT RIGHT
LMOVE l2 l2 LEFT RIGHT
LTRIM l2 0 0
LMOVE l2 l3 LEFT LEFT
RPOP l3
LTRIM l 5 1
LPOS absent x
BLPOP l2 absent 0.01
RPUSH l2 one
BLPOP l2 0
RPUSH l2 one
BRPOPLPUSH l2 l3 0
HSET h a 1 b 2
HSET h a 1
HSETNX h c 3
HSETNX h c 4
HMSET h d 4
HINCRBY h a 2
HINCRBYFLOAT h a 0.5
HDEL h missing
HDEL h a b
HGET absent f
HGETALL absent
HDEL h c d
HINCRBY h2 n 1
SADD u 1 2 3 4 x
SADD u 1
SREM u 9
SREM u 1
SPOP u
SMOVE u u2 missing
SADD u only
SMOVE u u2 only
SADD u2 p q
SUNIONSTORE u3 u u2
SINTERSTORE u3 u2 absent
SINTERSTORE u3 u2 absent
SDIFFSTORE u3 u absent
SUNION absent u
SISMEMBER absent x
SRANDMEMBER absent
SPOP u2 100
SPOP absent
ZADD z 1 a 2 b 3 c
ZADD z 1 a
ZADD z XX 5 missing
ZADD z 9 a
ZADD z INCR 2 a
ZADD z NX INCR 2 a
ZINCRBY z 0 a
ZINCRBY z 2 a
ZREM z missing
ZREM z a
ZADD z 1 d 2 e 3 f 4 g
ZREMRANGEBYSCORE z 1 1
ZREMRANGEBYSCORE z 100 200
ZREMRANGEBYRANK z 0 0
ZREMRANGEBYLEX z [zz [zzz
ZPOPMIN z
ZPOPMAX z
ZPOPMAX absent
ZUNIONSTORE z2 1 z
ZINTERSTORE z2 2 z absent
ZINTERSTORE z2 2 z absent
ZDIFFSTORE z2 1 z
ZRANGESTORE z3 z2 0 -1
ZRANGESTORE z3 absent 0 -1
ZSCORE absent x
ZCARD absent
ZRANGE absent 0 -1
BZPOPMIN z2 0
BZPOPMAX z2 0
ZPOPMIN z 100
XADD x 1-1 f v
XADD x MAXLEN 1 2-1 f v
XADD x NOMKSTREAM 3-1 f v
XADD absent NOMKSTREAM 3-1 f v
XTRIM x MAXLEN 1
XTRIM x MAXLEN 1
XDEL x 9-9
XDEL x 3-1
XLEN absent
XRANGE absent - +
XADD x 4-1 f v
XGROUP CREATE x g 0
XGROUP CREATE y g 0 MKSTREAM
XGROUP SETID x g 0
XGROUP CREATECONSUMER x g c
XGROUP CREATECONSUMER x g c
XREADGROUP GROUP g c COUNT 1 STREAMS x >
XADD x 5-1 f v
XADD x 6-1 f v
XREADGROUP GROUP g d COUNT 1 STREAMS x >
XREADGROUP GROUP g e COUNT 1 NOACK STREAMS x >
XREADGROUP GROUP g history COUNT 1 STREAMS x 0
XREADGROUP GROUP g history COUNT 1 STREAMS x 0
XCLAIM x g f 0 5-1
XCLAIM x g f 0 5-1
XAUTOCLAIM x g h 0 0
MULTI; XREADGROUP GROUP g i STREAMS x 0; XREADGROUP GROUP g i STREAMS x 0; EXEC
EVAL return{redis.call('xreadgroup','group','g','j','streams','x','0')} 0
XACK x g 4-1
XGROUP DELCONSUMER x g c
XGROUP DESTROY x g
XSETID x 9-9
SELECT 1
SET here 1
DEL here f3
SELECT 0
MULTI; SET m 1; EXPIRE m 100; INCR m; DEL m; EXEC
EVAL return{redis.call('set','e',1),redis.call('incr','e'),redis.call('del','e')} 0
SWAPDB 0 1
SET swapped 1
SWAPDB 0 1
SET gone 1 PX 1
FLUSHALL
""".strip().splitlines()

# Clients that wait are served by what another does.
SERVED = [
    (["BLPOP", "w", "0"], ["RPUSH", "w", "1"]),
    (["BLMOVE", "w", "w2", "LEFT", "RIGHT", "0"], ["RPUSH", "w", "1", "2"]),
    (["BZPOPMAX", "w3", "0"], ["ZADD", "w3", "1", "a"]),
]


def events(link, listener, *commands):
    """What the listener hears of commands."""
    for args in commands:
        link.call(*args)
    return heard(link, listener)


def heard(link, listener):
    link.call("PUBLISH", "compared", "end")
    found = []
    while True:
        _, _, channel, payload = listener.read()
        if channel == b"compared":
            return found
        found.append((channel.decode(), payload.decode()))


def wait_until_blocked(link):
    while b"blocked_clients:1" not in link.call("INFO", "clients"):
        pass


def wait_for_clock(link, micros):
    """Until the server's own clock is that much further; asking for it touches no key."""
    def now():
        seconds, rest = link.call("TIME")
        return int(seconds) * 1_000_000 + int(rest)

    until = now() + micros
    while now() <= until:
        pass


def run(connect):
    """`connect` opens a link to each of both, Redis first."""
    both = [(link, listener, waiter) for link, listener, waiter in zip(connect(), connect(), connect())]
    for letters in ["KEA", "gKE", "KE", "Kn", "AKEtm", "mnE$", "Q", ""]:
        answers = [(link.call("CONFIG", "SET", "notify-keyspace-events", letters), link.call("CONFIG", "GET", "notify-keyspace-events")) for link, _, _ in both]
        if repr(answers[0]) != repr(answers[1]):
            print(f"notify-keyspace-events {letters!r}: redis {answers[0]!r}, mainstay {answers[1]!r}")
            return False
    for link, listener, _ in both:
        link.call("FLUSHALL")
        link.call("CONFIG", "SET", "notify-keyspace-events", "KEAmn")
        for pattern in (b"__key*", b"compared"):
            listener.call("PSUBSCRIBE", pattern)
    good = True
    for line in STEPS:
        theirs, ours = (events(link, listener, *(part.split(" ") for part in line.split("; "))) for link, listener, _ in both)
        if line.endswith("PX 1"):
            # Both meet the dead key when they are asked for it.
            for link, _, _ in both:
                wait_for_clock(link, 5_000)
            theirs, ours = (got + events(link, listener, ["STRLEN", "gone"]) for got, (link, listener, _) in zip((theirs, ours), both))
        if theirs != ours:
            print(f"events of {line}:\n  redis:    {theirs}\n  mainstay: {ours}")
            good = False
    for wait, serve in SERVED:
        found = []
        for link, listener, waiter in both:
            waiter.send(*wait)
            wait_until_blocked(link)
            found.append(events(link, listener, serve))
            waiter.read()
        if found[0] != found[1]:
            print(f"events of {serve} for {wait}:\n  redis:    {found[0]}\n  mainstay: {found[1]}")
            good = False
    for link, _, _ in both:
        link.call("CONFIG", "SET", "notify-keyspace-events", "")
        link.call("FLUSHALL")
    if good:
        print(f"{len(STEPS) + len(SERVED)} steps, the same events")
    return good
