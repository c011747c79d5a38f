"""Three gateways, one Redis: limits hold under load, and while Redis is killed, paused and started again."""

import signal
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor

from servers import TOKENS, Gateway, Redis, Upstream, play, until, upstream

GATEWAYS = 3
# No request may take longer than this, whatever Redis does.
PATIENCE = 3.0


class Cluster:
    def __init__(self, binary, config, folder):
        port = upstream()
        self.redis = Redis(folder)
        self.redis.start()
        address = f"redis://127.0.0.1:{self.redis.port}/0"
        self.gateways = [Gateway(binary, config, address, port) for _ in range(GATEWAYS)]
        self.pool = ThreadPoolExecutor(60)
        self.wait_shared()

    def begin(self, model, count):
        return [self.pool.submit(self.gateways[n % GATEWAYS].chat, model) for n in range(count)]

    def load(self, model, count):
        return [future.result() for future in self.begin(model, count)]

    def wait_shared(self):
        for gateway in self.gateways:
            gateway.reaches_redis()

    def refuses_closed(self):
        """Waits until what was taken ahead is over: without Redis, the closed quota refuses."""
        until("the closed quota refuses", lambda: statuses(self.load("closed", 6)) == {500: 6})

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


def counters_are_those_of_the_service(cluster):
    """Named as the rate limit service names them, and kept as long: a window and up to 300 s."""
    year = 365 * 86400
    start = int(time.time()) // year * year
    name = f"ai-gateway-quota_backend_name_default/open_model_name_override_wide_{start}"
    kept = int(cluster.redis.ask("TTL", name))
    assert year - 60 <= kept <= year + 300, kept
    return f"kept for {kept} s"


def batches_leave_one_key_for_each_gateway(cluster):
    keys = cluster.redis.ask("KEYS", "tollgate_settled_*")
    assert 1 <= len(keys) <= GATEWAYS, keys
    return f"{len(keys)} keys"


def calls(redis, command):
    """Returns how often a command was called."""
    lines = redis.ask("INFO", "commandstats").splitlines()
    found = [line for line in lines if line.startswith(f"cmdstat_{command}:")]
    return int(found[0].split("calls=")[1].split(",")[0]) if found else 0


def what_is_asked_for_often_is_taken_ahead(cluster):
    before, (used, _) = calls(cluster.redis, "evalsha"), cluster.redis.used("wide")
    answers = cluster.load("wide", 600)
    assert statuses(answers) == {200: 600}, statuses(answers)
    cluster.settled("wide", used + 600 * TOKENS)
    scripts = calls(cluster.redis, "evalsha") - before
    assert scripts < 600, f"{scripts} scripts for 600 requests"
    return f"{scripts} scripts for 600 requests and their settlements"


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
    # Nothing was taken ahead of this limit.
    during = cluster.load("meanwhile", 60)
    slowest = max(taken for _, taken in during)
    assert statuses(during) == {200: 60} and slowest < PATIENCE, (statuses(during), slowest)
    cluster.refuses_closed()
    cluster.redis.signal(signal.SIGCONT)
    cluster.wait_shared()
    # What was under way when it began is booked once. What was let through without a claim is not booked, and claims
    # that were carried out when their requests had given up hold nothing.
    cluster.settled("paused", 30 * TOKENS)
    until("nothing is held", lambda: cluster.redis.used("meanwhile")[1] == 0)
    return f"slowest of 60 requests: {slowest * 1000:.0f} ms"


def what_there_is_no_room_for_is_booked_later(cluster):
    Upstream.gate.clear()
    (used, _), held = cluster.redis.used("wide"), Upstream.held
    before = cluster.begin("wide", 30)
    until("all are under way", lambda: Upstream.held == held + 30)
    cluster.redis.ask("CONFIG", "SET", "maxmemory", "1")
    Upstream.gate.set()
    answers = [future.result() for future in before]
    assert statuses(answers) == {200: 30}, statuses(answers)
    until("redis refuses", lambda: "errorstat_OOM" in cluster.redis.ask("INFO", "errorstats"))
    cluster.redis.ask("CONFIG", "SET", "maxmemory", "0")
    cluster.settled("wide", used + 30 * TOKENS)
    return f"{30 * TOKENS} tokens"


def what_is_no_counter_does_not_stand_in_the_way(cluster):
    """Somebody else's key lies where a counter was: what was used of the others is booked."""
    Upstream.gate.clear()
    (used, _), held = cluster.redis.used("wide"), Upstream.held
    under_way = cluster.begin("paused", 5) + cluster.begin("wide", 5)
    until("all are under way", lambda: Upstream.held == held + 10)
    [key] = cluster.redis.ask("KEYS", "ai-gateway-quota_*_paused_*[0-9]")
    cluster.redis.ask("DEL", key)
    cluster.redis.ask("LPUSH", key, "foreign")
    Upstream.gate.set()
    assert statuses([future.result() for future in under_way]) == {200: 10}
    cluster.settled("wide", used + 5 * TOKENS)
    cluster.redis.ask("DEL", key)
    until("nothing is held", lambda: cluster.redis.used("paused")[1] == 0)
    return f"{5 * TOKENS} tokens"


def who_holds_for_longer_is_not_forgotten(cluster):
    """Two routes to one quota, whose requests may take a second and an hour."""
    Upstream.gate.clear()
    held = Upstream.held
    long = cluster.begin("long", 1)
    until("the long one is under way", lambda: Upstream.held == held + 1)
    short = cluster.begin("short", 1)
    until("both are under way", lambda: Upstream.held == held + 2)
    [key] = cluster.redis.ask("KEYS", "ai-gateway-quota_*_both_*:held")
    dues = [int(due) for due in cluster.redis.ask("HKEYS", key)]
    expires = int(cluster.redis.ask("EXPIRETIME", key))
    Upstream.gate.set()
    assert statuses([future.result() for future in long + short]) == {200: 2}
    assert len(dues) == 2 and expires == max(dues), (dues, expires)
    cluster.settled("both", 2 * TOKENS)
    return f"{max(dues) - min(dues)} s apart"


def connections(redis):
    return int(redis.ask("INFO", "stats").split("total_connections_received:")[1].split()[0])


def a_copy_is_not_connected_to_again_and_again(cluster):
    """The server has become a copy of one that is not there: it answers and takes no writes."""
    Upstream.gate.clear()
    (used, _), held = cluster.redis.used("wide"), Upstream.held
    before = cluster.begin("wide", 30)
    until("all are under way", lambda: Upstream.held == held + 30)
    cluster.redis.ask("REPLICAOF", "127.0.0.1", "1")
    Upstream.gate.set()
    answers = [future.result() for future in before]
    assert statuses(answers) == {200: 30}, statuses(answers)
    begun, end = connections(cluster.redis), time.monotonic() + 3
    while time.monotonic() < end:
        during = cluster.load("meanwhile", 30)
        assert statuses(during) == {200: 30}, statuses(during)
    made = connections(cluster.redis) - begun
    assert made < 30, f"{made} connections of {GATEWAYS} gateways in 3 s"
    cluster.redis.ask("REPLICAOF", "NO", "ONE")
    cluster.wait_shared()
    cluster.settled("wide", used + 30 * TOKENS)
    return f"{made} connections in 3 s"


def a_kill_stalls_nobody(cluster):
    cluster.redis.kill()
    during = cluster.load("wide", 90)
    slowest = max(taken for _, taken in during)
    assert statuses(during) == {200: 90} and slowest < PATIENCE, (statuses(during), slowest)
    cluster.refuses_closed()
    cluster.redis.start()
    cluster.wait_shared()
    begun = connections(cluster.redis)
    assert begun < 200, f"{begun} connections after the restart"
    used, _ = cluster.redis.used("wide")
    answers = cluster.load("wide", 60)
    assert statuses(answers) == {200: 60}, statuses(answers)
    cluster.settled("wide", used + 60 * TOKENS)
    return f"slowest of 90 requests: {slowest * 1000:.0f} ms; {used} tokens booked late"


def main(binary, config):
    checks = [
        totals_are_exact,
        batches_leave_one_key_for_each_gateway,
        counters_are_those_of_the_service,
        what_is_asked_for_often_is_taken_ahead,
        the_limit_holds,
        a_pause_stalls_nobody_and_loses_nothing,
        what_there_is_no_room_for_is_booked_later,
        what_is_no_counter_does_not_stand_in_the_way,
        who_holds_for_longer_is_not_forgotten,
        a_copy_is_not_connected_to_again_and_again,
        a_kill_stalls_nobody,
    ]
    with tempfile.TemporaryDirectory() as folder:
        cluster = Cluster(binary, config, folder)
        try:
            for check in checks:
                play(check, cluster)
        finally:
            cluster.redis.signal(signal.SIGCONT)
            cluster.stop()


if __name__ == "__main__":
    main(*sys.argv[1:])
