"""Gateways that share a cluster of Redis: limits hold while keys move and a server is killed."""

import signal
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor

from limits import PATIENCE, statuses
from servers import TOKENS, Gateway, Redis, free_port, play, until, upstream
from sessions import Tools, deletes, lists, opened

SERVERS, GATEWAYS, TEAMS = 3, 2, 8
SLOTS = 16_384
SERVICE = "ai-gateway-quota_backend_name_default/several_[0-9]"


class Cluster:
    """Three servers that share the slots, a copy of the first, and two gateways."""

    def __init__(self):
        self.pool = ThreadPoolExecutor(40)
        self.servers, self.gateways = [], []

    def begin(self, binary, config, folder):
        for name in ["a", "b", "c", "copy"]:
            self.add(folder, name)
        first = self.servers[0]
        for number, server in enumerate(self.servers[:SERVERS]):
            begin, end = number * SLOTS // SERVERS, (number + 1) * SLOTS // SERVERS - 1
            assert server.ask("CLUSTER", "ADDSLOTSRANGE", str(begin), str(end)) == "OK"
        for server in self.servers[1:]:
            words = ["127.0.0.1", str(server.port), str(server.bus)]
            assert first.ask("CLUSTER", "MEET", *words) == "OK"
        until("the servers have met", lambda: all(server.knows(len(self.servers)) for server in self.servers))
        identity = first.ask("CLUSTER", "MYID")
        until("there is a copy", lambda: self.servers[3].ask("CLUSTER", "REPLICATE", identity) == "OK")
        until("the cluster is one", self.is_whole)
        until("the copy is one", lambda: "connected" in self.servers[3].role())
        # One that is not there comes first.
        self.address = f"redis-cluster://127.0.0.1:{free_port()},127.0.0.1:{first.port}/0"
        port = upstream()
        for _ in range(GATEWAYS):
            gateway = Gateway(binary, config, self.address, port)
            self.gateways.append(gateway)
            until("a gateway counts", lambda: gateway.chat("first")[0] == 200 and self.used(SERVICE)[0] > 0)
        until("nothing is held", lambda: self.used(SERVICE)[1] == 0)

    def add(self, folder, name):
        bus = free_port()
        server = Server(folder, ["--cluster-enabled", "yes", "--cluster-port", str(bus), "--cluster-node-timeout", "1000",
                                 "--cluster-config-file", f"{name}.conf"])
        server.bus = bus
        server.start()
        self.servers.append(server)

    def masters(self):
        return [server for server in self.servers if server.process.poll() is None and "master" in server.role()]

    def is_whole(self):
        running = [server for server in self.servers if server.process.poll() is None]
        return all("cluster_state:ok" in server.ask("CLUSTER", "INFO") for server in running)

    def used(self, name):
        """What was used and what is held of the counters whose names begin so."""
        used = held = 0
        for server in self.masters():
            for key in server.ask("KEYS", f"*{name}*"):
                if key.endswith(":held"):
                    held += sum(int(number) for number in server.ask("HVALS", key))
                elif ":tollgate" not in key:
                    used += int(server.ask("GET", key) or 0)
        return used, held

    def load(self, model, count):
        asked = [
            self.pool.submit(self.gateways[n % GATEWAYS].chat, model, {"x-team": f"t{n % TEAMS}"}) for n in range(count)
        ]
        return [future.result() for future in asked]

    def key(self, name):
        """The counter with such a name."""
        keys = [key for server in self.masters() for key in server.ask("KEYS", f"*ai-gateway-quota_*{name}*")]
        [key] = [key for key in keys if ":" not in key]
        return key

    def owner(self, key):
        slot = int(self.masters()[0].ask("CLUSTER", "KEYSLOT", key))
        [owner] = [server for server in self.masters() if slot in server.slots()]
        return slot, owner

    def stop(self):
        for gateway in self.gateways:
            gateway.stop()
        for server in self.servers:
            server.signal(signal.SIGCONT)
            server.kill()


class Server(Redis):
    def knows(self, count):
        return f"cluster_known_nodes:{count}" in self.ask("CLUSTER", "INFO")

    def slots(self):
        """The slots that the server has itself."""
        identity = self.ask("CLUSTER", "MYID")
        return {
            slot
            for begin, end, owner, *_ in self.ask("CLUSTER", "SLOTS")
            if owner[2] == identity
            for slot in range(int(begin), int(end) + 1)
        }


def totals_are_exact(cluster):
    before, _ = cluster.used(SERVICE)
    answers = cluster.load("wide", 400)
    assert statuses(answers) == {200: 400}, statuses(answers)
    until("it is counted of the backend", lambda: cluster.used(SERVICE) == (before + 400 * TOKENS, 0))
    # The bucket of all, and one for each team.
    until("it is counted of the model", lambda: cluster.used("several_model_name_override_wide") == (800 * TOKENS, 0))
    keys = [len(server.ask("KEYS", "ai-gateway-quota_*")) for server in cluster.masters()]
    assert all(keys), keys
    return f"{400 * TOKENS} tokens counted three times, on servers with {keys} counters"


def the_limit_holds(cluster, model="tight"):
    (before, _), name = cluster.used(SERVICE), f"model_name_override_{model}"
    answers = cluster.load(model, 200)
    last = answers
    # What was held at the same time is free again for later requests.
    while statuses(last).keys() != {429}:
        until("nothing is held", lambda: cluster.used(name)[1] == 0)
        last = cluster.load(model, 10)
        answers += last
    found, (used, _) = statuses(answers), cluster.used(name)
    assert found.keys() == {200, 429}, found
    assert used == found[200] * TOKENS, (used, found)
    assert 1900 <= used <= 2000, used
    if model == "tight":
        # What a refused request held of the other limit is given back.
        until("the backend has no more", lambda: cluster.used(SERVICE) == (before + used, 0))
    return f"{used} of 2000 used, {found}"


def windows_slide(cluster):
    found = the_limit_holds(cluster, "slid")
    key = cluster.key("slid")
    assert key.startswith("{ai-gateway-quota_"), key
    return found


def keys_move(cluster):
    """The slot of a counter moves while requests ask for it."""
    before, _ = cluster.used(SERVICE)
    key = cluster.key("several_[0-9]")
    slot, source = cluster.owner(key)
    target = next(server for server in cluster.masters() if server is not source)
    ids = [server.ask("CLUSTER", "MYID") for server in [source, target]]
    load = [cluster.pool.submit(cluster.load, "wide", 100)]
    target.ask("CLUSTER", "SETSLOT", str(slot), "IMPORTING", ids[0])
    source.ask("CLUSTER", "SETSLOT", str(slot), "MIGRATING", ids[1])
    moved = 0
    while keys := source.ask("CLUSTER", "GETKEYSINSLOT", str(slot), "10"):
        done = source.ask("MIGRATE", "127.0.0.1", str(target.port), "", "0", "5000", "KEYS", *keys)
        assert done in ("OK", "NOKEY"), done
        moved += len(keys)
    # Whoever asks now is sent on, call by call.
    asked = cluster.load("wide", 50)
    for server in [target, source]:
        assert server.ask("CLUSTER", "SETSLOT", str(slot), "NODE", ids[1]) == "OK"
    # And now for good.
    asked += cluster.load("wide", 50) + [answer for future in load for answer in future.result()]
    assert statuses(asked) == {200: 200}, statuses(asked)
    until("nothing is held", lambda: cluster.used(SERVICE)[1] == 0)
    used, _ = cluster.used(SERVICE)
    # While some of its keys are here and others there, a counter cannot be asked, and the limit is open.
    assert before + 100 * TOKENS <= used <= before + 200 * TOKENS, (before, used)
    assert cluster.owner(key)[1] is target
    sent_on = source.ask("INFO", "errorstats")
    assert "errorstat_ASK" in sent_on and "errorstat_MOVED" in sent_on, sent_on
    return f"{moved} keys, {(used - before) // TOKENS} of 200 requests counted"


def a_silent_server_stalls_nobody(cluster):
    _, owner = cluster.owner(cluster.key("tight"))
    owner.signal(signal.SIGSTOP)
    answers = cluster.load("wide", 60)
    slowest = max(taken for _, taken in answers)
    owner.signal(signal.SIGCONT)
    assert statuses(answers) == {200: 60} and slowest < PATIENCE, (statuses(answers), slowest)
    until("the cluster is one again", cluster.is_whole, 60)
    until("nothing is held", lambda: cluster.used("quota")[1] == 0, 60)
    return f"slowest of 60 requests: {slowest * 1000:.0f} ms"


def a_copy_takes_over(cluster):
    first, copy = cluster.servers[0], cluster.servers[3]
    owner = first if "master" in first.role() else copy
    other = copy if owner is first else first
    until("there is a copy of all", lambda: "connected" in other.role())
    owner.kill()
    answers = cluster.load("wide", 60)
    slowest = max(taken for _, taken in answers)
    assert statuses(answers) == {200: 60} and slowest < PATIENCE, (statuses(answers), slowest)
    begun = time.monotonic()
    until("the copy has become a server", lambda: "master" in other.role(), 60)
    until("the cluster is one again", cluster.is_whole, 60)

    def counts_all():
        before = cluster.used("several_model_name_override_wide")[0]
        answers = cluster.load("wide", 20)
        assert statuses(answers) == {200: 20}, statuses(answers)
        until("nothing is held", lambda: cluster.used("several_model")[1] == 0, 60)
        return cluster.used("several_model_name_override_wide")[0] >= before + 40 * TOKENS

    until("all is counted again", counts_all, 60)
    return f"slowest of 60 requests: {slowest * 1000:.0f} ms; all is counted {time.monotonic() - begun:.1f} s later"


def deleted_sessions_are_told(cluster, binary, config, folder):
    seed = f"{folder}/seed"
    with open(seed, "w") as file:
        file.write("a seed of both gateways that nobody else has")
    port = upstream(Tools)
    pair = [Gateway(binary, config, cluster.address, port, ["--mcp-session-seed-file", seed]) for _ in range(2)]
    try:
        session = opened(pair[0])
        assert lists(pair[1], session) == 200
        deletes(pair[0], session)
        until("the other gateway has heard", lambda: lists(pair[1], session) == 404)
    finally:
        for gateway in pair:
            gateway.stop()
    return "404"


def main(binary, config, sessions):
    checks = [totals_are_exact, the_limit_holds, windows_slide, keys_move, a_silent_server_stalls_nobody]
    with tempfile.TemporaryDirectory() as folder:
        cluster = Cluster()
        try:
            cluster.begin(binary, config, folder)
            for check in checks:
                play(check, cluster)
            play(deleted_sessions_are_told, cluster, binary, sessions, folder)
            play(a_copy_takes_over, cluster)
        finally:
            cluster.stop()


if __name__ == "__main__":
    main(*sys.argv[1:])
