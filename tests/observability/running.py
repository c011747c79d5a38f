"""The gateway in front of its simulated provider, as a process, and an MCP server."""

import json
import os
import re
import signal
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, HTTPServer

TOLLGATE = os.environ["TOLLGATE"]


class Gateway:
    """The gateway in front of its simulated provider."""

    def __init__(self, variables, files=(), arguments=()):
        command = [TOLLGATE, "run", *files, "--port", "0", "--admin-port", "0", *arguments]
        self.process = subprocess.Popen(
            command, env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for line in self.process.stderr:
            found = re.findall(r"http://([0-9.]+:\d+)", line)
            if len(found) >= 2:
                self.address, self.admin = found[0], found[1]
                break
        threading.Thread(target=self.process.stderr.read, daemon=True).start()

    def ask(self, stream, model="sim-1"):
        request = {"model": model, "messages": [{"role": "user", "content": "Hello"}], "stream": stream}
        if stream:
            request["stream_options"] = {"include_usage": True}
        return self.post("/v1/chat/completions", request)

    def post(self, path, request, headers=None):
        """Returns what is answered to `request`, be it an error."""
        try:
            with self.send(path, request, headers) as answer:
                return answer.read()
        except urllib.error.HTTPError as error:
            return error.read()

    def send(self, path, request, headers=None):
        """Returns the answer to `request`."""
        call = urllib.request.Request(
            f"http://{self.address}{path}",
            data=json.dumps(request).encode(),
            headers={"content-type": "application/json", "agent-session-id": "s-1", **(headers or {})},
        )
        return urllib.request.urlopen(call)

    def metrics(self, accept):
        call = urllib.request.Request(f"http://{self.admin}/metrics", headers={"accept": accept})
        with urllib.request.urlopen(call) as answer:
            assert accept in answer.headers["content-type"]
            return answer.read().decode()

    def end(self):
        """Ends it; returns what it wrote to standard output."""
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(20) == 0
        return self.process.stdout.read()


class Tools:
    """An MCP server with one tool; remembers where calls stand."""

    def __init__(self):
        sent = self.sent = []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                message = json.loads(self.rfile.read(int(self.headers["content-length"])))
                meta = message.get("params", {}).get("_meta", {})
                sent.append((message["method"], self.headers["traceparent"], meta.get("traceparent")))
                results = {
                    "initialize": {
                        "protocolVersion": "2025-06-18",
                        "capabilities": {"tools": {}},
                        "serverInfo": {"name": "tools", "version": "1"},
                    },
                    "tools/list": {"tools": [{"name": "echo", "inputSchema": {"type": "object"}}]},
                    "tools/call": {"content": [{"type": "text", "text": "said"}]},
                }
                result = results.get(message["method"])
                body = json.dumps({"jsonrpc": "2.0", "id": message.get("id"), "result": result}).encode()
                self.send_response(200 if result else 202)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(body) if result else 0))
                self.end_headers()
                self.wfile.write(body if result else b"")

            def log_message(self, *_):
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_port
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def until(probe, complaint, limit=60):
    """Returns what `probe` finds as soon as it finds something."""
    end = time.monotonic() + limit
    while time.monotonic() < end:
        if found := probe():
            return found
        time.sleep(0.2)
    raise AssertionError(complaint)
