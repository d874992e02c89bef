"""redis-py against REDIS_URL: the stock handshake and what an application does, over RESP3 and RESP2."""

import os
import threading

import redis

URL = os.environ["REDIS_URL"]


def roundtrip(protocol):
    client = redis.Redis.from_url(URL, protocol=protocol, decode_responses=True, client_name="python")
    prefix = f"python:{protocol}:"
    assert client.ping()
    assert client.connection_pool.get_connection().protocol in (protocol, str(protocol))
    assert tuple(map(int, client.info("server")["redis_version"].split("."))) >= (7, 0, 8)

    assert client.set(prefix + "text", "grün", ex=60)
    assert client.get(prefix + "text") == "grün"
    assert 0 < client.ttl(prefix + "text") <= 60
    assert client.set(prefix + "text", "x", nx=True) is None

    assert client.hset(prefix + "hash", mapping={"a": 1, "b": "zwei"}) == 2
    assert client.hgetall(prefix + "hash") == {"a": "1", "b": "zwei"}
    assert client.zadd(prefix + "zset", {"one": 1, "two": 2.5}) == 2
    assert [tuple(pair) for pair in client.zrange(prefix + "zset", 0, -1, withscores=True)] == [("one", 1.0), ("two", 2.5)]
    assert client.rpush(prefix + "list", "a", "b", "c") == 3
    assert client.lrange(prefix + "list", 0, -1) == ["a", "b", "c"]
    assert client.sadd(prefix + "set", "x", "y") == 2
    assert client.smembers(prefix + "set") == {"x", "y"}

    with client.pipeline(transaction=True) as pipe:
        assert pipe.incr(prefix + "n").incrby(prefix + "n", 41).execute() == [1, 42]
    with client.pipeline() as pipe:
        pipe.watch(prefix + "n")
        client.set(prefix + "n", "changed")
        pipe.multi()
        pipe.set(prefix + "n", "lost")
        try:
            pipe.execute()
            raise AssertionError("a watched key changed and EXEC went through")
        except redis.WatchError:
            pass

    try:
        client.lpush(prefix + "text", "x")
        raise AssertionError("LPUSH on a string went through")
    except redis.ResponseError as error:
        assert str(error).startswith("WRONGTYPE"), error

    assert sorted(client.scan_iter(prefix + "*")) == sorted(prefix + n for n in ("text", "hash", "zset", "list", "set", "n"))
    blocked_pop(client, prefix)
    subscription(client, prefix)
    assert client.delete(*client.keys(prefix + "*")) == 6


def blocked_pop(client, prefix):
    """BLPOP waits for what another connection pushes."""
    popped = []
    reader = redis.Redis.from_url(URL, decode_responses=True)
    thread = threading.Thread(target=lambda: popped.append(reader.blpop([prefix + "queue"], timeout=10)))
    thread.start()
    client.rpush(prefix + "queue", "job")
    thread.join()
    assert [tuple(pair) for pair in popped] == [(prefix + "queue", "job")], popped
    reader.close()


def subscription(client, prefix):
    """A message published after the subscription was confirmed arrives."""
    channel = client.pubsub()
    channel.subscribe(prefix + "channel")
    assert channel.get_message(timeout=10)["type"] == "subscribe"
    assert client.publish(prefix + "channel", "hello") == 1
    message = channel.get_message(timeout=10)
    assert (message["type"], message["data"]) == ("message", "hello"), message
    channel.close()


def wrong_password():
    host, port = URL.rsplit("@", 1)[1].split(":")
    try:
        redis.Redis(host=host, port=int(port.split("/")[0]), password="wrong").ping()
        raise AssertionError("a wrong password was taken")
    except redis.AuthenticationError:
        pass


for version in (3, 2):
    roundtrip(version)
wrong_password()
print("redis-py", redis.__version__, "ok")
