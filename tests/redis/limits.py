"""Three gateways, one Redis: limits hold under load, and while Redis is killed, paused and started again."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TOKENS = 20
GATEWAYS = 3
# No request may take longer than this, whatever Redis does.
PATIENCE = 3.0


class Upstream(BaseHTTPRequestHandler):
    """Answers every chat with the same counts, once `gate` is open."""

    protocol_version = "HTTP/1.1"
    gate = threading.Event()
    lock = threading.Lock()
    held = 0

    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        if not Upstream.gate.is_set():
            with Upstream.lock:
                Upstream.held += 1
            Upstream.gate.wait(30)
        usage = {"prompt_tokens": TOKENS - 5, "completion_tokens": 5, "total_tokens": TOKENS}
        message = {"role": "assistant", "content": "hello"}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        answer = {"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], "usage": usage}
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    request_queue_size = 256
    daemon_threads = True


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def until(what, condition, limit=20):
    end = time.monotonic() + limit
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"{what}: not within {limit} s")
        time.sleep(0.01)


class Redis:
    def __init__(self, folder):
        self.port, self.folder, self.process = free_port(), folder, None

    def start(self):
        arguments = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        self.process = subprocess.Popen(
            ["redis-server", *arguments, "--dir", self.folder], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        until("redis answers", self.answers)

    def answers(self):
        try:
            return self.ask("PING") == "PONG"
        except OSError:
            return False

    def ask(self, *words):
        with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
            connection.sendall(f"*{len(words)}\r\n".encode() + b"".join(f"${len(w.encode())}\r\n{w}\r\n".encode() for w in words))
            stream = connection.makefile("rb")
            head = stream.readline().decode().strip()
            if head.startswith("$"):
                length = int(head[1:])
                return None if length < 0 else stream.read(length).decode()
            if head.startswith("*"):
                return [stream.read(int(stream.readline()[1:]) + 2).decode().strip() for _ in range(int(head[1:]))]
            return head[1:]

    def used(self, model):
        backend = "closed" if model == "closed" else "open"
        keys = self.ask("KEYS", f"ai-gateway-quota_backend_name_default/{backend}_model_name_override_{model}_*")
        counters = [key for key in keys if not key.endswith(":held")]
        held = sum(int(n) for key in keys if key.endswith(":held") for n in self.ask("HVALS", key))
        return sum(int(self.ask("GET", key) or 0) for key in counters), held

    def signal(self, number):
        self.process.send_signal(number)

    def kill(self):
        self.process.kill()
        self.process.wait()


class Gateway:
    def __init__(self, binary, config, redis, upstream):
        self.port, self.admin = free_port(), free_port()
        environment = {**os.environ, "UPSTREAM_PORT": str(upstream)}
        self.process = subprocess.Popen(
            [binary, "run", config, "--port", str(self.port), "--admin-port", str(self.admin),
             "--access-log", "off", "--redis", f"redis://127.0.0.1:{redis}/0"],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        until("a gateway is ready", self.ready)

    def ready(self):
        assert self.process.poll() is None, "a gateway has ended"
        try:
            return self.get("/ready")[0] == 200
        except OSError:
            return False

    def get(self, path):
        connection = http.client.HTTPConnection("127.0.0.1", self.admin, timeout=5)
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read()

    def chat(self, model):
        body = json.dumps({"model": model, "max_tokens": 8, "messages": [{"role": "user", "content": "hi"}]})
        begun = time.monotonic()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        connection.request("POST", "/v1/chat/completions", body, {"content-type": "application/json"})
        answer = connection.getresponse()
        answer.read()
        connection.close()
        return answer.status, time.monotonic() - begun

    def stop(self):
        self.process.terminate()
        self.process.wait(20)


class Cluster:
    def __init__(self, binary, config, folder):
        self.upstream = Server(("127.0.0.1", 0), Upstream)
        threading.Thread(target=self.upstream.serve_forever, daemon=True).start()
        Upstream.gate.set()
        self.redis = Redis(folder)
        self.redis.start()
        port = self.upstream.server_address[1]
        self.gateways = [Gateway(binary, config, self.redis.port, port) for _ in range(GATEWAYS)]
        self.pool = ThreadPoolExecutor(60)
        self.wait_shared()

    def begin(self, model, count):
        return [self.pool.submit(self.gateways[n % GATEWAYS].chat, model) for n in range(count)]

    def load(self, model, count):
        return [future.result() for future in self.begin(model, count)]

    def wait_shared(self):
        """Waits until every gateway reaches Redis: the closed quota answers."""
        for gateway in self.gateways:
            until("a gateway reaches redis", lambda: gateway.chat("closed")[0] == 200)

    def settled(self, model, expected):
        until(f"{model} is settled at {expected}", lambda: self.redis.used(model) == (expected, 0))

    def stop(self):
        for gateway in self.gateways:
            gateway.stop()
        self.redis.kill()


def statuses(answers):
    found = {}
    for status, _ in answers:
        found[status] = found.get(status, 0) + 1
    return found


def totals_are_exact(cluster):
    answers = cluster.load("wide", 600)
    assert statuses(answers) == {200: 600}, statuses(answers)
    cluster.settled("wide", 600 * TOKENS)
    return f"{600 * TOKENS} tokens of 600 requests on {GATEWAYS} gateways"


def the_limit_holds(cluster):
    answers = cluster.load("tight", 300)
    until("nothing is held", lambda: cluster.redis.used("tight")[1] == 0)
    # What was held at the same time is free again for later requests.
    answers += cluster.load("tight", 300)
    until("nothing is held", lambda: cluster.redis.used("tight")[1] == 0)
    found, (used, _) = statuses(answers), cluster.redis.used("tight")
    assert found.keys() == {200, 429}, found
    assert used == found[200] * TOKENS, (used, found)
    assert 1900 <= used <= 2000, used
    return f"{used} of 2000 used, {found}"


def a_pause_stalls_nobody_and_loses_nothing(cluster):
    Upstream.gate.clear()
    before = cluster.begin("paused", 30)
    until("all are under way", lambda: Upstream.held == 30)
    cluster.redis.signal(signal.SIGSTOP)
    Upstream.gate.set()
    answers = [future.result() for future in before]
    assert statuses(answers) == {200: 30}, statuses(answers)
    during = cluster.load("paused", 60)
    slowest = max(taken for _, taken in during)
    assert statuses(during) == {200: 60} and slowest < PATIENCE, (statuses(during), slowest)
    refused = cluster.load("closed", 6)
    assert statuses(refused) == {500: 6}, statuses(refused)
    cluster.redis.signal(signal.SIGCONT)
    cluster.wait_shared()
    # What was under way when it began is booked once; what was let through without a claim is not booked, unless
    # its claim was carried out after all and is given back when it is due.
    until("what was used is booked", lambda: cluster.redis.used("paused")[0] == 30 * TOKENS)
    return f"slowest of 60 requests: {slowest * 1000:.0f} ms"


def a_kill_stalls_nobody(cluster):
    cluster.redis.kill()
    during = cluster.load("wide", 90)
    slowest = max(taken for _, taken in during)
    assert statuses(during) == {200: 90} and slowest < PATIENCE, (statuses(during), slowest)
    refused = cluster.load("closed", 6)
    assert statuses(refused) == {500: 6}, statuses(refused)
    cluster.redis.start()
    cluster.wait_shared()
    begun = int(cluster.redis.ask("INFO", "stats").split("total_connections_received:")[1].split()[0])
    assert begun < 200, f"{begun} connections after the restart"
    used, _ = cluster.redis.used("wide")
    answers = cluster.load("wide", 60)
    assert statuses(answers) == {200: 60}, statuses(answers)
    cluster.settled("wide", used + 60 * TOKENS)
    return f"slowest of 90 requests: {slowest * 1000:.0f} ms; {used} tokens booked late"


def main(binary, config):
    checks = [totals_are_exact, the_limit_holds, a_pause_stalls_nobody_and_loses_nothing, a_kill_stalls_nobody]
    with tempfile.TemporaryDirectory() as folder:
        cluster = Cluster(binary, config, folder)
        try:
            for check in checks:
                begun = time.monotonic()
                figures = check(cluster)
                print(f"{check.__name__}: {figures} ({time.monotonic() - begun:.1f} s)", flush=True)
        finally:
            cluster.redis.signal(signal.SIGCONT)
            cluster.stop()


main(*sys.argv[1:])
