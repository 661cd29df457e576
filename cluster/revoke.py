"""Logs in with the key of the environment, deactivates it, and says how long the token still worked.

Usage: revoke.py NAMESPACE ZENAPIKEY. Needs only Python; kubectl must be on PATH.
"""

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

URL = os.environ["ZENML_STORE_URL"] + "/api/v1"


def log_in():
    form = {"grant_type": "zenml-api-key", "password": os.environ["ZENML_STORE_API_KEY"]}
    body = urllib.parse.urlencode(form).encode()
    with urllib.request.urlopen(URL + "/login", body, timeout=10) as answer:
        return json.load(answer)["access_token"]


def status(token):
    request = urllib.request.Request(URL + "/current-user", headers={"Authorization": "Bearer " + token})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status
    except urllib.error.HTTPError as refusal:
        return refusal.code


def main():
    namespace, key = sys.argv[1:]
    token = log_in()
    assert status(token) == 200, "the token is not accepted"
    patch = ["kubectl", "patch", "zenapikey", key, "--namespace", namespace, "--type=merge",
             "--patch", '{"spec":{"active":false}}']
    print("$ " + " ".join(patch).replace('{"spec":{"active":false}}', "'{\"spec\":{\"active\":false}}'"))
    subprocess.run(patch, check=True, stdout=subprocess.DEVNULL)
    answered = time.monotonic()
    accepted = 0
    while (code := status(token)) == 200:
        accepted += 1
        assert time.monotonic() - answered < 60, "still accepted after a minute"
    assert code == 401, f"answered {code}"
    milliseconds = (time.monotonic() - answered) * 1000
    print(f"{milliseconds:.0f} ms after kubectl returned the token is refused; it was accepted {accepted} more times")


main()
