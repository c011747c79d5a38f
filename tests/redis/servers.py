"""What the checks are made with: an upstream, Redis, sentinels and gateways, each on a port of its own."""

import http.client
import json
import os
import socket
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TOKENS = 20


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


def play(check, *setting):
    """Runs a check and says what it found."""
    begun = time.monotonic()
    figures = check(*setting)
    print(f"{check.__name__}: {figures} ({time.monotonic() - begun:.1f} s)", flush=True)


class Redis:
    """A server; `arguments` go before its own, and `login` are the words that a connection begins with."""

    def __init__(self, folder, arguments=(), login=(), tls=None):
        self.port, self.folder, self.process = free_port(), folder, None
        self.arguments, self.login, self.tls = list(arguments), login, tls

    def start(self):
        port = ["--port", "0", "--tls-port", str(self.port)] if self.tls else ["--port", str(self.port)]
        arguments = [*self.arguments, *port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
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
            if self.tls:
                connection = self.tls.wrap_socket(connection, server_hostname="127.0.0.1")
            with connection, connection.makefile("rwb") as stream:
                for command in [self.login, words] if self.login else [words]:
                    stream.write(f"*{len(command)}\r\n".encode())
                    stream.writelines(f"${len(w.encode())}\r\n{w}\r\n".encode() for w in command)
                    stream.flush()
                    answer = self.read(stream)
                return answer

    def read(self, stream):
        head = stream.readline().decode().strip()
        if head.startswith("$"):
            length = int(head[1:])
            return None if length < 0 else stream.read(length + 2)[:-2].decode()
        if head.startswith("*"):
            return [self.read(stream) for _ in range(int(head[1:]))]
        return head[1:]

    def role(self):
        """What the server is in its group; nothing while it changes that, for then it closes all connections."""
        try:
            return self.ask("ROLE")
        except OSError:
            return []

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
    """`log` is the file that what it says about itself is written to."""

    def __init__(self, binary, config, redis, upstream, arguments=(), log=subprocess.DEVNULL):
        self.port, self.admin = free_port(), free_port()
        environment = {**os.environ, "UPSTREAM_PORT": str(upstream)}
        self.process = subprocess.Popen(
            [binary, "run", config, "--port", str(self.port), "--admin-port", str(self.admin),
             "--access-log", "off", "--redis", redis, *arguments],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=log,
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

    def chat(self, model, headers={}):
        body = json.dumps({"model": model, "max_tokens": 8, "messages": [{"role": "user", "content": "hi"}]})
        begun = time.monotonic()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        connection.request("POST", "/v1/chat/completions", body, {"content-type": "application/json", **headers})
        answer = connection.getresponse()
        answer.read()
        connection.close()
        return answer.status, time.monotonic() - begun

    def reaches_redis(self):
        """Waits for Redis: without it, the closed quota does not answer."""
        until("a gateway reaches redis", lambda: self.chat("closed")[0] == 200)

    def stop(self):
        self.process.terminate()
        self.process.wait(20)


class Way:
    """The way to a server, on which everything is lost once it is `blocked`."""

    def __init__(self, port):
        self.port, self.blocked = free_port(), threading.Event()
        self.target, self.listener = port, socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            client, _ = self.listener.accept()
            server = socket.create_connection(("127.0.0.1", self.target))
            for one, other in [(client, server), (server, client)]:
                threading.Thread(target=self.carry, args=(one, other), daemon=True).start()

    def carry(self, one, other):
        try:
            while data := one.recv(65536):
                if not self.blocked.is_set():
                    other.sendall(data)
        except OSError:
            pass
        for end in [one, other]:
            end.close()


def upstream(handler=Upstream):
    """Starts an upstream; returns its port."""
    server = Server(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    Upstream.gate.set()
    return server.server_address[1]
