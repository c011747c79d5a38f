"""Profiles on the admin listener: off by default, and read here as `pprof` reads them, by the fields of its schema."""

import gzip
import json
import threading
import urllib.error
import urllib.request

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from running import Gateway

# The part of github.com/google/pprof, proto/profile.proto, that is read: name, number, type, whether repeated.
SCHEMA = {
    "ValueType": [("type", 1, "int64", False), ("unit", 2, "int64", False)],
    "Sample": [("location_id", 1, "uint64", True), ("value", 2, "int64", True)],
    "Line": [("function_id", 1, "uint64", False), ("line", 2, "int64", False)],
    "Location": [("id", 1, "uint64", False), ("address", 3, "uint64", False), ("line", 4, "Line", True)],
    "Function": [("id", 1, "uint64", False), ("name", 2, "int64", False), ("filename", 4, "int64", False)],
    "Profile": [
        ("sample_type", 1, "ValueType", True),
        ("sample", 2, "Sample", True),
        ("location", 4, "Location", True),
        ("function", 5, "Function", True),
        ("string_table", 6, "string", True),
        ("time_nanos", 9, "int64", False),
        ("duration_nanos", 10, "int64", False),
        ("period_type", 11, "ValueType", False),
        ("period", 12, "int64", False),
    ],
}
KINDS = {"int64": 3, "uint64": 4, "string": 9}


def profile_class():
    file = descriptor_pb2.FileDescriptorProto(name="profile.proto", package="perftools", syntax="proto3")
    for name, fields in SCHEMA.items():
        message = file.message_type.add(name=name)
        for field, number, kind, repeated in fields:
            added = message.field.add(name=field, number=number, label=3 if repeated else 1)
            if kind in KINDS:
                added.type = KINDS[kind]
            else:
                added.type, added.type_name = 11, f".perftools.{kind}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("perftools.Profile"))


def get(gateway, path):
    try:
        with urllib.request.urlopen(f"http://{gateway.admin}{path}", timeout=120) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


class Load:
    """Asks as fast as it can."""

    def __init__(self, gateway):
        self.ended = threading.Event()
        self.threads = [threading.Thread(target=self.run, args=(gateway,)) for _ in range(2)]
        for thread in self.threads:
            thread.start()

    def run(self, gateway):
        while not self.ended.is_set():
            gateway.ask(True)

    def end(self):
        self.ended.set()
        for thread in self.threads:
            thread.join()


def test_profiles_are_off_unless_asked_for():
    for variables in [{}, {"TOLLGATE_PROFILING": "true", "DISABLE_PPROF": ""}]:
        gateway = Gateway(variables)
        for path in ["/debug/pprof/heap", "/debug/pprof/profile?seconds=1"]:
            assert get(gateway, path) == (404, b"there are no profiles: see --profiling\n")
        gateway.end()


def test_a_profile_shows_what_ran():
    gateway = Gateway({"TOLLGATE_PROFILING": "true"})
    load = Load(gateway)
    try:
        status, body = get(gateway, "/debug/pprof/profile?seconds=3")
        assert status == 200, body
    finally:
        load.end()
    profile = profile_class().FromString(gzip.decompress(body))
    texts = profile.string_table
    assert texts[0] == ""
    assert [(texts[kind.type], texts[kind.unit]) for kind in profile.sample_type] == [
        ("samples", "count"),
        ("cpu", "nanoseconds"),
    ]
    assert profile.duration_nanos >= 3 * 10**9 and profile.time_nanos > 0
    functions = {function.id: texts[function.name] for function in profile.function}
    locations = {location.id: [functions[line.function_id] for line in location.line] for location in profile.location}
    assert profile.sample, "nothing was seen to run"
    seen = set()
    for sample in profile.sample:
        samples, nanoseconds = sample.value
        assert samples > 0 and nanoseconds == samples * profile.period
        # Every number stands for something.
        seen.update(name for location in sample.location_id for name in locations[location])
    for ours in ["gateway::", "llm::"]:
        assert any(ours in name for name in seen), f"{ours} is not among {sorted(seen)}"
    for seconds in ["0", "301", "long"]:
        assert get(gateway, f"/debug/pprof/profile?seconds={seconds}")[0] == 400
    gateway.end()


def test_one_profile_is_made_at_a_time():
    gateway = Gateway({"TOLLGATE_PROFILING": "true"})
    answers = []
    threads = [
        threading.Thread(target=lambda: answers.append(get(gateway, "/debug/pprof/profile?seconds=2"))) for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(status for status, _ in answers) == [200, 409]
    # The next one can be made.
    assert get(gateway, "/debug/pprof/profile?seconds=1")[0] == 200
    gateway.end()


def test_the_allocator_tells_what_it_holds():
    gateway = Gateway({"TOLLGATE_PROFILING": "true"})
    gateway.ask(False)
    status, body = get(gateway, "/debug/pprof/heap")
    assert status == 200
    told = json.loads(body)
    assert told, body
    gateway.end()
