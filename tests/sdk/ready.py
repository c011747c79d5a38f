"""Waits until an address answers 200; gives up after ten seconds."""

import sys
import time
import urllib.error
import urllib.request


def ready(url: str) -> bool:
    try:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        return opener.open(url, timeout=1).status == 200
    except (urllib.error.URLError, OSError):
        return False


deadline = time.monotonic() + 10
while not ready(sys.argv[1]):
    if time.monotonic() > deadline:
        sys.exit(1)
    time.sleep(0.02)
