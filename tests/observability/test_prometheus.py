"""A real Prometheus scrapes the gateway under load: its linter finds nothing, and no panel of the dashboard is empty."""

import json
import os
import subprocess
import threading
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import pytest

from running import Gateway, free_port, until

PROMETHEUS = Path(os.environ["PROMETHEUS"])
DASHBOARD = Path(__file__).parents[2] / "docs" / "grafana.json"
VARIABLES = {"$provider": ".*", "$model": ".*", "$__range": "1m"}


class Prometheus:
    """Scrapes one address every second."""

    def __init__(self, folder, address):
        configuration = folder / "prometheus.yml"
        configuration.write_text(
            "global: {scrape_interval: 1s}\n"
            f"scrape_configs: [{{job_name: gateway, static_configs: [{{targets: ['{address}']}}]}}]\n"
        )
        subprocess.run([PROMETHEUS / "promtool", "check", "config", configuration], check=True, capture_output=True)
        port = free_port()
        self.base = f"http://127.0.0.1:{port}"
        self.log = (folder / "prometheus.log").open("w")
        self.process = subprocess.Popen(
            [
                PROMETHEUS / "prometheus",
                f"--config.file={configuration}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=self.log,
            stderr=self.log,
        )

    def ask(self, query):
        """Returns the values that `query` has now, without those that are no number."""
        url = f"{self.base}/api/v1/query?{urllib.parse.urlencode({'query': query})}"
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                found = json.load(answer)["data"]["result"]
        except urllib.error.HTTPError as error:
            # It is not ready yet.
            if error.code == 503:
                return []
            raise AssertionError(f"{query}: {error.read().decode()}") from error
        except OSError:
            return []
        return [row for row in found if row["value"][1] != "NaN"]

    def end(self):
        self.process.terminate()
        self.process.wait(20)
        self.log.close()


class Load:
    """Asks for answers and streams until it is ended, for a model that exists and for one that does not."""

    def __init__(self, gateway):
        self.ended = threading.Event()
        self.threads = [
            threading.Thread(target=self.run, args=(gateway, model, stream))
            for model, stream in [("sim-1", False), ("sim-1", True), ("absent", False)]
        ]
        for thread in self.threads:
            thread.start()

    def run(self, gateway, model, stream):
        while not self.ended.is_set():
            gateway.ask(stream, model)

    def end(self):
        self.ended.set()
        for thread in self.threads:
            thread.join()


def queries():
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        for target in panel.get("targets", []):
            query = target["expr"]
            for name, value in VARIABLES.items():
                query = query.replace(name, value)
            assert "$" not in query, f"{panel['title']}: a variable that the dashboard does not declare: {query}"
            yield panel["title"], query


@pytest.fixture
def gateway():
    gateway = Gateway({})
    yield gateway
    gateway.end()


def test_no_panel_is_empty(tmp_path, gateway):
    load = Load(gateway)
    prometheus = Prometheus(tmp_path, gateway.admin)
    try:
        for title, query in queries():
            until(lambda: prometheus.ask(query), f"{title}: {query} has no value")
        [up] = prometheus.ask("up")
        assert up["value"][1] == "1"
    finally:
        load.end()
        prometheus.end()


def test_the_linter_finds_nothing(gateway):
    gateway.ask(False, "sim-1")
    gateway.ask(True, "sim-1")
    text = gateway.metrics("text/plain")
    linted = subprocess.run(
        [PROMETHEUS / "promtool", "check", "metrics"], input=text, capture_output=True, text=True, timeout=60
    )
    assert (linted.returncode, linted.stdout + linted.stderr) == (0, "")
