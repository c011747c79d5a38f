"""The ways to Redis: with TLS and a user of few rights, and by way of sentinels, who change their minds."""

import os
import ssl
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor

from servers import TOKENS, Gateway, Redis, Upstream, Way, play, until, upstream

# What a gateway needs of Redis.
RIGHTS = (
    "+ping +select +evalsha +eval +script|load "
    "+get +set +incrby +expire +expireat +hgetall +hdel +hexists +hincrby"
).split()


def openssl(*words):
    subprocess.run(["openssl", *words], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def certificates(folder):
    """Makes an authority, a certificate of the server, and one of the client with its key in one file."""
    at = lambda name: os.path.join(folder, name)
    new = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    openssl("req", "-x509", *new, "-keyout", at("ca.key"), "-out", at("ca.pem"), "-subj", "/CN=authority", "-days", "2")
    for name in ["server", "client"]:
        with open(at(f"{name}.ext"), "w") as extensions:
            extensions.write("subjectAltName=IP:127.0.0.1\nbasicConstraints=CA:FALSE\n")
        openssl("req", *new, "-keyout", at(f"{name}.key"), "-out", at(f"{name}.csr"), "-subj", f"/CN={name}")
        openssl("x509", "-req", "-in", at(f"{name}.csr"), "-CA", at("ca.pem"), "-CAkey", at("ca.key"), "-CAcreateserial",
                "-days", "2", "-extfile", at(f"{name}.ext"), "-out", at(f"{name}.pem"))
    with open(at("both.pem"), "w") as both:
        for name in ["client.pem", "client.key"]:
            both.write(open(at(name)).read())


def encrypted_and_with_few_rights(binary, config, folder):
    certificates(folder)
    at = lambda name: os.path.join(folder, name)
    tls = ssl.create_default_context(cafile=at("ca.pem"))
    tls.load_cert_chain(at("both.pem"))
    users = ["user default off", "user root on >root ~* &* +@all",
             f"user limits on >p@ss/word ~ai-gateway-quota_* ~tollgate_settled_* {' '.join(RIGHTS)}"]
    with open(at("users.acl"), "w") as file:
        file.write("\n".join(users))
    arguments = ["--tls-cert-file", at("server.pem"), "--tls-key-file", at("server.key"),
                 "--tls-ca-cert-file", at("ca.pem"), "--aclfile", at("users.acl")]
    redis = Redis(folder, arguments, ("AUTH", "root", "root"), tls)
    redis.start()
    address = f"rediss://limits:p%40ss%2Fword@127.0.0.1:{redis.port}/0"
    gateway = Gateway(binary, config, address, upstream(),
                      ["--redis-ca", at("ca.pem"), "--redis-certificate", at("both.pem")])
    try:
        gateway.reaches_redis()
        for _ in range(5):
            assert gateway.chat("wide")[0] == 200
        until("everything is booked", lambda: redis.used("wide") == (5 * TOKENS, 0))
    finally:
        gateway.stop()
        redis.kill()
    return "5 requests"


def what_is_refused_is_said(binary, config, folder):
    """A user without rights on the counters: limits are open, as they are without Redis, and somebody is told."""
    redis = Redis(folder)
    redis.start()
    redis.ask("ACL", "SETUSER", "stranger", "on", ">secret", "~other_*", *RIGHTS)
    path = os.path.join(folder, "gateway.log")
    with open(path, "w") as log:
        address = f"redis://stranger:secret@127.0.0.1:{redis.port}/0"
        gateway = Gateway(binary, config, address, upstream(), log=log)
    said = lambda: open(path).read().count("redis refuses to decide")
    try:
        until("redis refuses", lambda: gateway.chat("wide")[0] == 200 and "errorstat_NOPERM" in redis.ask("INFO", "errorstats"))
        until("it is said", lambda: said() == 1)
        for _ in range(5):
            assert gateway.chat("closed")[0] == 500
        assert said() == 1, open(path).read()
    finally:
        gateway.stop()
        redis.kill()
    return "said once"


def sentinels_say_where(binary, config, folder):
    login = ("AUTH", "secret")
    secret = ["--requirepass", "secret", "--masterauth", "secret"]
    servers = [Redis(folder, secret, login) for _ in range(2)]
    servers[0].start()
    servers[1].arguments += ["--replicaof", f"127.0.0.1 {servers[0].port}"]
    servers[1].start()
    until("the copy is one", lambda: "connected" in servers[1].role())
    path = os.path.join(folder, "sentinel.conf")
    with open(path, "w") as file:
        file.write(f"sentinel monitor main 127.0.0.1 {servers[0].port} 1\nsentinel auth-pass main secret\n"
                   "sentinel down-after-milliseconds main 500\nsentinel failover-timeout main 2000\n")
    sentinel = Redis(folder, [path, "--sentinel"])
    sentinel.start()
    # The first one that is named is not there.
    address = f"redis-sentinel://:secret@127.0.0.1:1,127.0.0.1:{sentinel.port}/main/0"
    gateway = Gateway(binary, config, address, upstream())
    try:
        gateway.reaches_redis()
        assert gateway.chat("wide")[0] == 200
        until("everything is booked", lambda: servers[0].used("wide") == (TOKENS, 0))
        until("the sentinel knows the copy", lambda: "slaves=1" in sentinel.ask("INFO", "sentinel"))
        servers[0].kill()
        begun = time.monotonic()
        until("the copy has become the server", lambda: "master" in servers[1].role(), 60)
        # What was taken ahead of the closed quota may still be served: it does not tell when Redis is reached.
        until("the other server counts", lambda: gateway.chat("wide")[0] == 200 and servers[1].used("wide")[0] > TOKENS)
        shared = time.monotonic() - begun
        until("nothing is held", lambda: servers[1].used("wide")[1] == 0)
    finally:
        gateway.stop()
        for server in [sentinel, *servers]:
            server.kill()
    return f"shared again after {shared:.1f} s"


def what_is_under_way_is_not_lost_with_the_connection(binary, config, folder):
    """The connection is found to be of no use while a batch is under way: it is used every second, for 2 s at most."""
    redis = Redis(folder)
    redis.start()
    way, port = Way(redis.port), upstream()
    gateway = Gateway(binary, config, f"redis://127.0.0.1:{way.port}/0", port)
    try:
        gateway.reaches_redis()
        for count, delay in enumerate([0.2, 0.8, 1.4, 2.0], start=1):
            Upstream.gate.clear()
            held = Upstream.held
            with ThreadPoolExecutor() as pool:
                under_way = pool.submit(gateway.chat, "paused")
                until("it is under way", lambda: Upstream.held == held + 1)
                way.blocked.set()
                time.sleep(delay)
                Upstream.gate.set()
                assert under_way.result()[0] == 200
            until("redis is missed", lambda: b'"answers":false' in gateway.get("/usage")[1])
            way.blocked.clear()
            gateway.reaches_redis()
            until(f"{count} are booked", lambda: redis.used("paused") == (count * TOKENS, 0))
    finally:
        Upstream.gate.set()
        gateway.stop()
        redis.kill()
    return f"{count * TOKENS} tokens"


def main(binary, config):
    checks = [
        encrypted_and_with_few_rights,
        what_is_refused_is_said,
        what_is_under_way_is_not_lost_with_the_connection,
        sentinels_say_where,
    ]
    for check in checks:
        with tempfile.TemporaryDirectory() as folder:
            play(check, binary, config, folder)


if __name__ == "__main__":
    main(*sys.argv[1:])
