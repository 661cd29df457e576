"""Raises what ZenML's own client makes of refusals.

Usage: exceptions.py URL, with requests as lines of JSON on stdin: method, path, headers, body. Prints
for each the status, and the class and the text of the exception.
"""

import json
import sys

import requests
from zenml.zen_server.exceptions import exception_from_response

for line in sys.stdin:
    asked = json.loads(line)
    answer = requests.request(
        asked["method"],
        sys.argv[1] + asked["path"],
        headers=asked.get("headers", {}),
        data=asked.get("body"),
        timeout=60,
    )
    # As the client does where it knows no exception.
    error = exception_from_response(answer) or RuntimeError(answer.text)
    told = {"status": answer.status_code, "class": type(error).__name__, "text": str(error)}
    print(json.dumps(told), flush=True)
