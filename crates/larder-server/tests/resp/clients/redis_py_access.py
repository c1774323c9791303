"""redis-py where it has to say who it is: by a name and a token, with both versions of the protocol, in a pool and in a pipeline."""

import os
import sys

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

checks = 0


def check(is_so, what):
    global checks
    checks += 1
    if not is_so:
        sys.exit(f"not so: {what}")


def refused(kind, call, what):
    try:
        call()
    except kind as error:
        check(True, what)
        return str(error)
    sys.exit(f"not refused: {what}")


port, name, token = int(sys.argv[1]), sys.argv[2], os.environ["LARDER_TOKEN"]

for protocol in (2, 3):
    def connect(**options):
        # It tries a wrong secret again and again otherwise, which is what holds one up.
        return redis.Redis(port=port, protocol=protocol, decode_responses=True, retry=Retry(NoBackoff(), 0), **options)

    refused(redis.AuthenticationError, lambda: connect().get("own:k"), "a stranger")
    wrong = refused(redis.AuthenticationError, lambda: connect(username=name, password="wrong").get("own:k"), "a wrong secret")
    check("wrong" not in wrong, "the secret is not repeated")
    client = connect(username=name, password=token)
    check(client.set("own:k", "1"), "set")
    check(client.get("own:k") == "1", "get")
    check(client.acl_whoami() == name, "who it is")
    check(client.client_info()["user"] == name, "what others see")
    refused(redis.exceptions.NoPermissionError, lambda: client.get("foreign:k"), "a key that may not be read")
    refused(redis.exceptions.NoPermissionError, client.flushall, "a command that may not be run")
    pipeline = client.pipeline(transaction=True)
    pipeline.incr("own:k")
    pipeline.get("own:k")
    check(pipeline.execute() == [2, "2"], "a transaction")
    check(connect(password=token).acl_whoami() == name, "a token alone")
    check(list(client.scan_iter()) == ["own:k"], "what is listed")
    client.delete("own:k")

print(f"{checks} checks")
