"""The plain peer: a reverse proxy as one writes it in an afternoon with Flask, requests, waitress.

It does the same job on the libraries' ordinary ways: a fixed token on each
request, pooled TLS connections, streamed responses. No telemetry, no log line.
"""

from __future__ import annotations

import os

import requests
import waitress
from flask import Flask, Response, request
from requests.adapters import HTTPAdapter

HOP_BY_HOP = {
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
}
THREADS = 32
METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]

app = Flask(__name__, static_folder=None)
session = requests.Session()
session.mount("https://", HTTPAdapter(pool_maxsize=THREADS))
session.verify = os.environ["TARGET_CA_FILE"]


@app.route("/", defaults={"path": ""}, methods=METHODS)
@app.route("/<path:path>", methods=METHODS)
def forward(path: str) -> Response:
    """Send the request on with the token, and stream the response back."""
    fields = {
        name: value
        for name, value in request.headers
        if name.lower() not in HOP_BY_HOP | {"host", "content-length"}
    }
    fields["Authorization"] = f"Bearer {os.environ['TOKEN']}"
    fields["X-Forwarded-For"] = request.remote_addr or ""
    received = session.request(
        request.method,
        f"https://{os.environ['TARGET_HOST']}/{path}",
        params=request.query_string,
        headers=fields,
        data=request.get_data(),
        stream=True,
        allow_redirects=False,
    )
    kept = [
        (name, value) for name, value in received.headers.items() if name.lower() not in HOP_BY_HOP
    ]
    body = received.raw.stream(65536, decode_content=False)
    response = Response(body, received.status_code, kept, direct_passthrough=True)
    response.call_on_close(received.close)
    return response


if __name__ == "__main__":
    waitress.serve(
        app, listen=f"127.0.0.1:{os.environ['LISTENING_PORT']}", threads=THREADS, ident=None
    )
