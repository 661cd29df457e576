"""Asks a server again and again, each time by a connection of its own and once: what fails is told, never tried again.

The server and a key of it are in the environment. Prints "asking" once it was answered, and when stdin ends one line of
JSON: how often it asked, and what failed.
"""

import json
import os
import sys
import threading
import time
import urllib.parse
import urllib.request

URL = os.environ["ZENML_STORE_URL"]
# One that the sidecar answers, and one for which it asks the ZenML server.
PATHS = ["/api/v1/current-user", "/api/v1/stacks?size=1"]
# So many at once that one of them comes while a pod closes its door.
CLIENTS = 6

form = urllib.parse.urlencode({"password": os.environ["ZENML_STORE_API_KEY"]}).encode()
told = {"asked": 0, "failed": []}
ended = threading.Event()


def ask(path: str, **options: object) -> dict:
    with urllib.request.urlopen(urllib.request.Request(URL + path, **options), timeout=20) as answer:
        return json.load(answer)


def client(path: str) -> None:
    while not ended.is_set():
        try:
            ask(path, headers=bearer)
        except Exception as error:
            body = error.read().decode() if hasattr(error, "read") else ""
            told["failed"].append(f"{time.strftime('%X')} {path}: {error!r} {body}")
        told["asked"] += 1
        time.sleep(0.01)


bearer = {"Authorization": f"Bearer {ask('/api/v1/login', data=form)['access_token']}"}
for path in PATHS:
    ask(path, headers=bearer)
clients = [threading.Thread(target=client, args=[PATHS[at % 2]]) for at in range(CLIENTS)]
for one in clients:
    one.start()
print("asking", flush=True)
sys.stdin.read()
ended.set()
for one in clients:
    one.join()
print(json.dumps(told))
