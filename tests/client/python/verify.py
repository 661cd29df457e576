"""Verifies tokens with joserfc, which knows nothing but the server's JWKS, and forges some.

Usage: verify.py URL ISSUER, with tokens as lines on stdin. Prints for each a line of JSON: its header and claims, and of each
forgery the text and what the library says of it.
"""

import base64
import json
import sys
import warnings

import requests
from joserfc import jwt
from joserfc.errors import JoseError, SecurityWarning
from joserfc.jwk import KeySet, OctKey, OKPKey

# RFC 9864 has another name for the one algorithm of Ed25519 keys that all know.
warnings.simplefilter("ignore", SecurityWarning)

URL, ISSUER = sys.argv[1:]
SET = requests.get(URL + "/.well-known/jwks.json", timeout=60).json()
KEYS = KeySet.import_key_set(SET)


def verified(token, now=None):
    decoded = jwt.decode(token, KEYS, algorithms=["EdDSA"])
    own = {"essential": True, "value": ISSUER}
    wanted = {"essential": True}
    # Clocks differ, and this one has whole seconds.
    rules = jwt.JWTClaimsRegistry(now, leeway=10, iss=own, aud=own, sub=wanted, exp=wanted)
    rules.validate(decoded.claims)
    return {"header": decoded.header, "claims": decoded.claims}


def encoded(part):
    return base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode()


def forgeries(token, told):
    """Each with the name of what is wrong."""
    head, claims, signature = token.split(".")
    header = told["header"]
    changed = {**told["claims"], "exp": told["claims"]["exp"] + 1}
    yield "claims", ".".join([head, encoded(changed), signature])
    first = "B" if signature[0] == "A" else "A"
    yield "signature", ".".join([head, claims, first + signature[1:]])
    yield "no signature", ".".join([encoded({**header, "alg": "none"}), claims, ""])
    stranger = OKPKey.generate_key("Ed25519")
    unknown = stranger.thumbprint()
    yield "renamed", ".".join([encoded({**header, "kid": unknown}), claims, signature])
    mine = {**header, "kid": unknown}
    yield "unknown key", jwt.encode(mine, told["claims"], stranger, algorithms=["EdDSA"])
    yield "another key", jwt.encode(header, told["claims"], stranger, algorithms=["EdDSA"])
    # What is public as the secret of a signature that needs one.
    public = OctKey.import_key(next(key["x"] for key in SET["keys"] if key["kid"] == header["kid"]))
    yield "HMAC", jwt.encode({**header, "alg": "HS256"}, told["claims"], public, algorithms=["HS256"])


for line in sys.stdin:
    token = line.strip()
    told = verified(token)
    told["forged"] = {}
    for name, forged in forgeries(token, told):
        try:
            why = verified(forged) and None
        except JoseError as error:
            why = type(error).__name__
        told["forged"][name] = [forged, why]
    try:
        told["late"] = verified(token, told["claims"]["exp"] + 10) and None
    except JoseError as error:
        told["late"] = type(error).__name__
    told["public"] = all("d" not in key for key in SET["keys"])
    print(json.dumps(told), flush=True)
