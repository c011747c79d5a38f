"""Two gateways, one Redis: a session of an MCP client that is deleted at one is over at both."""

import http.client
import itertools
import json
import os
import signal
import sys
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler

from servers import Gateway, Redis, play, until, upstream
from ways import RIGHTS

VERSION = "2025-11-25"
STREAM, KEPT = "tollgate_deleted_sessions", "tollgate_session_"
# No client may wait longer than this for the end of its session, whatever Redis does.
PATIENCE = 3.0


class Tools(BaseHTTPRequestHandler):
    """An MCP server that opens a session for whoever comes, and knows any: what is over is over at the gateways."""

    protocol_version = "HTTP/1.1"
    sessions = itertools.count(1)

    def do_POST(self):
        message = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if "id" not in message:
            return self.answer(202)
        result = {"tools": [{"name": "echo", "inputSchema": {"type": "object"}}]}
        headers = {}
        if message["method"] == "initialize":
            headers["mcp-session-id"] = f"{next(Tools.sessions)}-{'long' * 60}"
            result = {"protocolVersion": VERSION, "capabilities": {"tools": {}}, "serverInfo": {"name": "t", "version": "1"}}
        self.answer(200, {"jsonrpc": "2.0", "id": message["id"], "result": result}, headers)

    def do_GET(self):
        self.answer(405)

    def do_DELETE(self):
        self.answer(200)

    def answer(self, status, document=None, headers={}):
        body = json.dumps(document).encode() if document else b""
        self.send_response(status)
        for name, value in {"content-type": "application/json", **headers}.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Pair:
    """Two gateways with the same seed."""

    def __init__(self, binary, config, folder):
        self.binary, self.config, self.port = binary, config, upstream(Tools)
        self.seed = os.path.join(folder, "seed")
        with open(self.seed, "w") as seed:
            seed.write("a seed of both gateways that nobody else has")
        users = os.path.join(folder, "users.acl")
        with open(users, "w") as file:
            file.write("user default off\nuser root on >root ~* &* +@all\n"
                       f"user gateway on >secret ~{STREAM} ~{KEPT}* {' '.join(RIGHTS)} +xadd +xread +del")
        self.redis = Redis(folder, ["--aclfile", users], ("AUTH", "root", "root"))
        self.redis.start()
        self.gateways = [self.another(), self.another()]

    def another(self):
        address = f"redis://gateway:secret@127.0.0.1:{self.redis.port}/0"
        return Gateway(self.binary, self.config, address, self.port, ["--mcp-session-seed-file", self.seed])

    def stop(self):
        for gateway in self.gateways:
            gateway.stop()
        self.redis.kill()


def ask(gateway, verb, session=None, message=None, path="/mcp"):
    headers = {"accept": "application/json, text/event-stream", "content-type": "application/json"}
    if session:
        headers |= {"mcp-session-id": session, "mcp-protocol-version": VERSION}
    connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=30)
    connection.request(verb, path, json.dumps(message) if message else None, headers)
    return connection.getresponse()


def opened(gateway, path="/mcp"):
    client = {"protocolVersion": VERSION, "capabilities": {}, "clientInfo": {"name": "c", "version": "1"}}
    answer = ask(gateway, "POST", None, {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": client}, path)
    answer.read()
    session = answer.headers["mcp-session-id"]
    ask(gateway, "POST", session, {"jsonrpc": "2.0", "method": "notifications/initialized"}, path).read()
    return session


def lists(gateway, session, path="/mcp"):
    answer = ask(gateway, "POST", session, {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}, path)
    answer.read()
    return answer.status


def deletes(gateway, session, path="/mcp"):
    begun = time.monotonic()
    answer = ask(gateway, "DELETE", session, path=path)
    answer.read()
    took = time.monotonic() - begun
    assert (answer.status, took < PATIENCE) == (200, True), (answer.status, took)
    return took


def a_deleted_session_is_over_at_both(pair):
    one, other = pair.gateways
    session, kept = opened(one), opened(one)
    assert [lists(one, session), lists(other, session)] == [200, 200]
    stream = ask(other, "GET", session)
    assert stream.status == 200
    over = threading.Event()
    threading.Thread(target=lambda: (stream.read(), over.set()), daemon=True).start()
    deletes(one, session)
    assert lists(one, session) == 404
    until("the other gateway has heard", lambda: lists(other, session) == 404)
    until("its stream ends", over.is_set)
    assert ask(other, "GET", session).status == 404
    assert [lists(one, kept), lists(other, kept)] == [200, 200], "others are not over"
    [entry] = pair.redis.ask("XRANGE", STREAM, "-", "+")
    assert session not in str(entry), entry
    ends = int(pair.redis.ask("TTL", STREAM))
    assert 29 * 86_400 < ends <= 30 * 86_400, ends
    return "404"


def a_gateway_that_starts_later_hears_of_it(pair):
    session, others = opened(pair.gateways[0]), [opened(pair.gateways[0]) for _ in range(1100)]
    for deleted in [session, *others]:
        deletes(pair.gateways[0], deleted)
    pair.gateways.append(pair.another())
    until("the third gateway has heard", lambda: lists(pair.gateways[2], session) == 404)
    until("it has heard of all", lambda: lists(pair.gateways[2], others[-1]) == 404)
    return f"{1 + len(others)} sessions"


def tokens_that_are_too_long_are_kept(pair):
    one, other = pair.gateways[:2]
    session, kept = opened(one, "/long"), opened(one, "/long")
    assert len(session) < 64, session
    assert [lists(gateway, session, "/long") for gateway in [other, one]] == [200, 200]
    keys = pair.redis.ask("KEYS", f"{KEPT}*")
    assert len(keys) == 2 and session not in str(keys), keys
    assert 86_000 < int(pair.redis.ask("TTL", keys[0])) <= 86_400
    deletes(other, session, "/long")
    assert lists(other, session, "/long") == 404
    until("the other gateway has heard", lambda: lists(one, session, "/long") == 404)
    assert len(pair.redis.ask("KEYS", f"{KEPT}*")) == 1
    pair.gateways.append(pair.another())
    until("a gateway that starts later knows it", lambda: lists(pair.gateways[-1], kept, "/long") == 200)
    assert lists(other, "gk.AAAAAAAAAAAAAAAAAAAAAA", "/long") == 404
    pair.redis.signal(signal.SIGSTOP)
    begun = time.monotonic()
    alone = opened(one, "/long")
    assert lists(one, alone, "/long") == 200
    assert lists(other, alone, "/long") == 404
    took = time.monotonic() - begun
    pair.redis.signal(signal.SIGCONT)
    assert took < PATIENCE, took
    return f"{len(session)} bytes; {1000 * took:.0f} ms while redis is away"


def redis_may_be_away(pair):
    one, other = pair.gateways[:2]
    pair.redis.signal(signal.SIGSTOP)
    paused = opened(one)
    took = deletes(one, paused)
    assert [lists(one, paused), lists(other, paused)] == [404, 200]
    pair.redis.signal(signal.SIGCONT)
    until("the other gateway has heard after a pause", lambda: lists(other, paused) == 404, 60)
    killed = opened(one)
    pair.redis.kill()
    took = max(took, deletes(one, killed))
    assert [lists(one, killed), lists(other, killed)] == [404, 200]
    pair.redis.start()
    until("the other gateway has heard after a restart", lambda: lists(other, killed) == 404, 60)
    return f"{1000 * took:.0f} ms"


def what_others_wrote_there_is_passed_over(pair):
    for fields in [("session", "no"), ("session", "+" * 32, "end", "1"), ("session", "0" * 32, "end", "never"), ("x", "y")]:
        pair.redis.ask("XADD", STREAM, "*", *fields)
    one, other = pair.gateways[:2]
    session = opened(one)
    deletes(one, session)
    until("the other gateway has heard", lambda: lists(other, session) == 404)
    pair.redis.ask("DEL", STREAM)
    pair.redis.ask("SET", STREAM, "foreign")
    session = opened(one)
    took = deletes(one, session)
    assert lists(one, session) == 404
    pair.redis.ask("DEL", STREAM)
    session = opened(one)
    deletes(one, session)
    until("the other gateway hears again", lambda: lists(other, session) == 404)
    return f"{1000 * took:.0f} ms"


def main(binary, config):
    checks = [
        a_deleted_session_is_over_at_both,
        a_gateway_that_starts_later_hears_of_it,
        tokens_that_are_too_long_are_kept,
        redis_may_be_away,
        what_others_wrote_there_is_passed_over,
    ]
    with tempfile.TemporaryDirectory() as folder:
        pair = Pair(binary, config, folder)
        try:
            for check in checks:
                play(check, pair)
        finally:
            pair.redis.signal(signal.SIGCONT)
            pair.stop()


if __name__ == "__main__":
    main(*sys.argv[1:])
