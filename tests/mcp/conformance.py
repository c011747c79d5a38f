"""Runs the conformance suite against servers and against the gateway before them, and compares.

Whatever passes without the gateway passes through it where both speak the same revision. The tables of all runs, the
bridged ones included, stand in the documentation; a run that differs from them fails.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

LINE = re.compile(r"^[✓✗] ([a-z0-9-]+): (\d+) passed, (\d+) failed", re.M)


def run(revision: str, url: str) -> dict[str, tuple[int, int]]:
    """Returns what passed and failed of each scenario."""
    command = [node, suite, "server", "--url", url, "--requirements", revision]
    # The suite's own status says no more than its lines do.
    out = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False).stdout
    found = {name: (int(passed), int(failed)) for name, passed, failed in LINE.findall(out)}
    if not found:
        sys.exit(f"{url}: the suite said nothing:\n{out}")
    return {name: result for name, result in found.items() if not name.startswith("tasks-")}


def table(results: dict[str, dict[str, tuple[int, int]]]) -> str:
    """Returns the results as a table, one column to a run."""
    cell = lambda passed, failed: str(passed) if failed == 0 else f"{passed}, {failed} failed"
    names = list(next(iter(results.values())))
    rows = [["scenario", *results], ["---"] * (len(results) + 1)]
    rows += [[name, *(cell(*result.get(name, (0, 1))) for result in results.values())] for name in names]
    rows.append(["all", *(str(sum(passed for passed, _ in result.values())) for result in results.values())])
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


node, suite, page, *lines = sys.argv[1:]
page = Path(page)
text = page.read_text()
bad = []
for line in lines:
    revision, direct, *through = line.split()
    results = {"direct": run(revision, direct)}
    results |= {f"`/{url.rsplit('/', 1)[1]}`": run(revision, url) for url in through}
    written = table(results)
    print(written)
    baseline, *rest = results.values()
    # The last run is bridged: its server is of the other line, and has other tools.
    for result in rest[:-1]:
        bad += [f"{revision} {name}" for name, (_, failed) in baseline.items() if result.get(name, (0, 1))[1] > failed]
    block = re.compile(rf"(?<=<!-- conformance {revision} -->\n).*?(?=<!-- end -->)", re.S)
    text = block.sub(lambda _: f"\n{written}\n", text)
if os.environ.get("TOLLGATE_WRITE_CONFORMANCE"):
    page.write_text(text)
elif page.read_text() != text:
    bad.append(f"the tables in {page.name} say something else: TOLLGATE_WRITE_CONFORMANCE=1 writes them")
if bad:
    sys.exit(f"worse through the gateway: {', '.join(bad)}")
