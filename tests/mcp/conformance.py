"""Runs the conformance suite against a server and against the gateway before it, and compares."""

import re
import subprocess
import sys

LINE = re.compile(r"^[✓✗] ([a-z0-9-]+): (\d+) passed, (\d+) failed", re.M)


def run(suite: str, url: str) -> dict[str, tuple[int, int]]:
    """Returns what passed and failed of each scenario."""
    command = ["node", suite, "server", "--url", url, "--suite", "all"]
    # The suite's own status says no more than its lines do.
    out = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False).stdout
    found = {name: (int(passed), int(failed)) for name, passed, failed in LINE.findall(out)}
    if not found:
        sys.exit(f"{url}: the suite said nothing:\n{out}")
    return found


suite, direct, *through = sys.argv[1:]
baseline = run(suite, direct)
results = [baseline, *(run(suite, url) for url in through)]
bad = []
print("| scenario | " + " | ".join(["direct", *(url.rsplit("/", 1)[1] for url in through)]) + " |")
print("|---" * (len(results) + 1) + "|")
for name, (passed, failed) in baseline.items():
    cells = []
    for result in results:
        own = result.get(name, (0, 1))
        cells.append(f"{own[0]}" if own[1] == 0 else f"{own[0]}, {own[1]} failed")
        # Whatever passes without the gateway passes through it.
        if own[1] > failed:
            bad.append(name)
    print(f"| {name} | " + " | ".join(cells) + " |")
totals = [sum(passed for passed, _ in result.values()) for result in results]
print("| all | " + " | ".join(map(str, totals)) + " |")
if bad:
    sys.exit(f"worse through the gateway: {', '.join(sorted(set(bad)))}")
