"""What an application does with redis-py, blocking or under asyncio, in RESP2 or RESP3.

    redis_py.py PORT PROTOCOL blocking|asyncio [cache]

Whatever is not as it should be ends it with an error. At the end it says how much it has checked.
"""

import asyncio
import inspect
import sys
import time

import redis
import redis.asyncio

checked = 0


def check(found, expected, what):
    global checked
    if found != expected:
        raise SystemExit(f"{what}: {found!r}, not {expected!r}")
    checked += 1


def soon(what):
    """Goes on for as long as something may take that is about to happen; then it did not."""
    began = time.monotonic()
    while time.monotonic() - began < 20:
        yield
    raise SystemExit(f"{what} did not come about")


async def done(result):
    """The result of a call to either kind of client."""
    return await result if inspect.isawaitable(result) else result


async def listed(iterator):
    if hasattr(iterator, "__aiter__"):
        return [each async for each in iterator]
    return list(iterator)


async def strings(r):
    check(await done(r.ping()), True, "ping")
    check(await done(r.set("greeting", "hello")), True, "set")
    check(await done(r.get("greeting")), b"hello", "get")
    check(await done(r.get("absent")), None, "a miss")
    check(await done(r.set("greeting", "again", nx=True)), None, "set nx of what is there")
    check(await done(r.set("greeting", "again", xx=True, get=True)), b"hello", "set xx get")
    check(await done(r.append("greeting", "!")), 6, "append")
    check(await done(r.strlen("greeting")), 6, "strlen")
    check(await done(r.getrange("greeting", 1, 3)), b"gai", "getrange")
    check(await done(r.getset("greeting", "x")), b"again!", "getset")
    check(await done(r.mset({"a": 1, "b": 2})), True, "mset")
    check(await done(r.mget("a", "b", "absent")), [b"1", b"2", None], "mget")
    check(await done(r.incr("a", 41)), 42, "incr")
    check(await done(r.decr("a", 2)), 40, "decr")
    check(float(await done(r.incrbyfloat("a", 0.5))), 40.5, "incrbyfloat")
    check(await done(r.exists("a", "b", "absent")), 2, "exists")
    check(await done(r.type("a")), b"string", "type")
    check(await done(r.delete("a", "absent")), 1, "delete")
    check(await done(r.getdel("b")), b"2", "getdel")
    try:
        await done(r.incr("greeting"))
        check("no error", "an error", "incr of a text")
    except redis.ResponseError as error:
        check(str(error), "value is not an integer or out of range", "the error of an incr of a text")


async def bytes_of_any_kind(r):
    every = bytes(range(256))
    check(await done(r.set(every, every[::-1])), True, "set of every byte")
    check(await done(r.get(every)), every[::-1], "get of every byte")
    check(await done(r.set("large", every * 4096)), True, "set of a megabyte")
    check(await done(r.get("large")), every * 4096, "get of a megabyte")
    check(await done(r.set("empty", b"")), True, "set of nothing")
    check(await done(r.get("empty")), b"", "get of nothing")
    check(await done(r.delete(every, "large", "empty")), 3, "delete of these")


async def times_to_live(r):
    await done(r.set("brief", "v", ex=100))
    check(98 <= await done(r.ttl("brief")) <= 100, True, "ttl")
    check(98_000 <= await done(r.pttl("brief")) <= 100_000, True, "pttl")
    check(bool(await done(r.persist("brief"))), True, "persist")
    check(await done(r.ttl("brief")), -1, "ttl of what lives for ever")
    check(bool(await done(r.expire("brief", 200, xx=True))), False, "expire xx")
    check(bool(await done(r.expire("brief", 200, nx=True))), True, "expire nx")
    check(bool(await done(r.expireat("brief", 4102444800))), True, "expireat")
    check(await done(r.expiretime("brief")), 4102444800, "expiretime")
    check(await done(r.getex("brief", px=20)), b"v", "getex")
    for _ in soon("the end of what lives briefly"):
        if not await done(r.exists("brief")):
            break
    check(await done(r.ttl("brief")), -2, "ttl of what is gone")


async def pipelines(r):
    pipe = r.pipeline(transaction=False)
    for i in range(1000):
        pipe.set(f"p:{i}", i)
    check(await done(pipe.execute()), [True] * 1000, "a thousand sets at once")
    for i in range(1000):
        pipe.get(f"p:{i}")
    check(await done(pipe.execute()), [str(i).encode() for i in range(1000)], "a thousand gets at once")
    pipe.set("p:0", "x").incr("p:0").get("p:0")
    results = await done(pipe.execute(raise_on_error=False))
    check([type(each).__name__ for each in results], ["bool", "ResponseError", "bytes"], "an error among others")


async def scans(r):
    found = await listed(r.scan_iter(match="p:*", count=100))
    check(sorted(set(found)), sorted(f"p:{i}".encode() for i in range(1000)), "a scan")
    check(len(await listed(r.scan_iter(match="p:*", _type="string"))) >= 1000, True, "a scan by type")
    check(await listed(r.scan_iter(match="q:*")), [], "a scan for nothing")
    check(sorted(await done(r.keys("p:99?"))), sorted(f"p:99{i}".encode() for i in range(10)), "keys")


async def transactions(r, other):
    await done(r.set("account", 100))
    pipe = r.pipeline(transaction=True)
    pipe.decr("account", 30).set("receipt", "30").get("account")
    check(await done(pipe.execute()), [70, True, b"70"], "a transaction")

    pipe = r.pipeline()
    await done(pipe.watch("account"))
    balance = int(await done(pipe.get("account")))
    pipe.multi()
    pipe.set("account", balance + 1)
    check(await done(pipe.execute()), [True], "a transaction over what is watched")

    await done(pipe.watch("account"))
    balance = int(await done(pipe.get("account")))
    await done(other.set("account", 1))
    pipe.multi()
    pipe.set("account", balance + 1)
    try:
        await done(pipe.execute())
        check("no error", "an error", "a transaction over what was changed")
    except redis.WatchError:
        check(await done(r.get("account")), b"1", "what was changed")
    await done(pipe.reset())


async def message(subscription):
    """The next of them; there is one, or it fails after a while."""
    for _ in range(200):
        got = await done(subscription.get_message(timeout=0.1))
        if got is not None:
            return got
    raise SystemExit("no message came")


async def subscriptions(r):
    subscription = r.pubsub()
    await done(subscription.subscribe("news", "__keyevent@0__:expired"))
    first, second = await message(subscription), await message(subscription)
    check([first["type"], first["channel"], first["data"]], ["subscribe", b"news", 1], "the first subscription")
    check([second["type"], second["channel"], second["data"]], ["subscribe", b"__keyevent@0__:expired", 2], "the second subscription")
    await done(subscription.psubscribe("__keyspace@0__:*"))
    got = await message(subscription)
    check([got["type"], got["pattern"], got["channel"], got["data"]], ["psubscribe", None, b"__keyspace@0__:*", 3], "a pattern")
    await done(subscription.ping())
    check((await message(subscription))["type"], "pong", "a ping between messages")
    await done(subscription.unsubscribe())
    left = sorted([(await message(subscription))["data"] for _ in range(2)])
    check(left, [1, 2], "the end of two subscriptions")
    await done(subscription.punsubscribe("__keyspace@0__:*"))
    check((await message(subscription))["data"], 0, "the end of the last one")


async def expired_is_told(r):
    """Only where the server tells of itself what Redis tells when it is configured to."""
    subscription = r.pubsub()
    await done(subscription.subscribe("__keyevent@0__:expired"))
    await message(subscription)
    await done(r.set("soon", "v", px=20))
    for _ in soon("the end of what lives briefly"):
        if not await done(r.exists("soon")):
            break
    # What expired before may be told late.
    got = await message(subscription)
    for _ in soon("word of what expired"):
        if got["data"] == b"soon":
            break
        got = await message(subscription)
    check([got["type"], got["data"]], ["message", b"soon"], "what expired")


async def connections(r):
    check(await done(r.client_setname("worker")), True, "client setname")
    check(isinstance(await done(r.client_id()), int), True, "client id")
    check(await done(r.echo("x")), b"x", "echo")
    check(len(await done(r.time())), 2, "time")
    check(await done(r.dbsize()) > 1000, True, "dbsize")


def cached(port):
    """The client's own cache, which the server tells what changed."""
    from redis.cache import CacheConfig

    near = redis.Redis(port=port, protocol=3, cache_config=CacheConfig())
    far = redis.Redis(port=port, protocol=3)
    far.set("near", "old")
    check(near.get("near"), b"old", "a first read")
    check(near.get("near"), b"old", "a read from the client's cache")
    check(near.get_cache().size, 1, "what is in the client's cache")
    far.set("near", "new")
    for _ in soon("word of a change"):
        if near.get("near") == b"new":
            break
    check(near.get("near"), b"new", "a read of what was changed")
    far.delete("near")
    for _ in soon("word of a deletion"):
        if near.get("near") is None:
            break
    check(near.get("near"), None, "a read of what was deleted")


async def scenario(r, other, events):
    await done(r.flushall())
    await strings(r)
    await bytes_of_any_kind(r)
    await times_to_live(r)
    await pipelines(r)
    await scans(r)
    await transactions(r, other)
    await subscriptions(r)
    if events:
        await expired_is_told(r)
    await connections(r)
    await done(r.flushdb())
    check(await done(r.dbsize()), 0, "dbsize after flushdb")


async def main():
    port, protocol, kind, extras = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4:]
    library = redis.asyncio if kind == "asyncio" else redis
    clients = [library.Redis(port=port, protocol=protocol) for _ in range(2)]
    await scenario(*clients, events="events" in extras)
    if "cache" in extras:
        cached(port)
    print(f"{checked} checks, redis-py {redis.__version__}")


asyncio.run(main())
