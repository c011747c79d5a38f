"""The gateway in front of its simulated provider, as a process."""

import json
import os
import re
import signal
import subprocess
import threading
import time
import urllib.error
import urllib.request

TOLLGATE = os.environ["TOLLGATE"]


class Gateway:
    """The gateway in front of its simulated provider."""

    def __init__(self, variables, files=()):
        arguments = [TOLLGATE, "run", *files, "--port", "0", "--admin-port", "0"]
        self.process = subprocess.Popen(
            arguments, env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for line in self.process.stderr:
            found = re.findall(r"http://([0-9.]+:\d+)", line)
            if len(found) >= 2:
                self.address, self.admin = found[0], found[1]
                break
        threading.Thread(target=self.process.stderr.read, daemon=True).start()

    def ask(self, stream, model="sim-1"):
        request = {
            "model": model,
            "messages": [{"role": "user", "content": "Hello"}],
            "stream": stream,
            "stream_options": {"include_usage": True} if stream else None,
        }
        call = urllib.request.Request(
            f"http://{self.address}/v1/chat/completions",
            data=json.dumps({name: value for name, value in request.items() if value is not None}).encode(),
            headers={"content-type": "application/json", "agent-session-id": "s-1"},
        )
        try:
            with urllib.request.urlopen(call) as answer:
                return answer.read()
        except urllib.error.HTTPError as error:
            return error.read()

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


def until(probe, complaint, limit=60):
    """Returns what `probe` finds as soon as it finds something."""
    end = time.monotonic() + limit
    while time.monotonic() < end:
        if found := probe():
            return found
        time.sleep(0.2)
    raise AssertionError(complaint)
