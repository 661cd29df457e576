"""Logs in by the device flow with Authlib, which knows nothing of ZenML.

Usage: device.py URL. Prints what a person needs as one line of JSON, then polls as RFC 8628 says, and
prints in the end who the token is of.
"""

import json
import sys
import time
import uuid

from authlib.integrations.base_client import OAuthError
from authlib.integrations.requests_client import OAuth2Session

GRANT = "urn:ietf:params:oauth:grant-type:device_code"
URL = sys.argv[1] + "/api/v1"

session = OAuth2Session(client_id=str(uuid.uuid4()), token_endpoint_auth_method="none")
told = session.post(
    URL + "/device_authorization", data={"client_id": session.client_id}, withhold_token=True
)
told.raise_for_status()
told = told.json()
print(json.dumps(told), flush=True)

interval = told.get("interval", 5)
end = time.monotonic() + told["expires_in"]
errors = []
while time.monotonic() < end:
    try:
        session.fetch_token(URL + "/login", grant_type=GRANT, device_code=told["device_code"])
        break
    except OAuthError as error:
        errors.append(error.error)
        if error.error == "slow_down":
            interval += 5
        elif error.error != "authorization_pending":
            raise
    time.sleep(interval)

me = session.get(URL + "/current-user")
me.raise_for_status()
try:
    session.fetch_token(URL + "/login", grant_type=GRANT, device_code=told["device_code"])
    again = "granted"
except OAuthError as error:
    again = error.error
print(json.dumps({"name": me.json()["name"], "errors": errors, "again": again}))
