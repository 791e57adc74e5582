"""What `helm test` runs: waits until each route has a token, or says what the proxy responds."""

import json
import os
import ssl
import sys
import time
import urllib.error
import urllib.request

url = os.environ["AUTHPROXY_URL"] + "/ready"
attempts = int(os.environ.get("AUTHPROXY_ATTEMPTS", "30"))
# Whom it speaks to does not matter here: nothing secret is sent, and names may be others.
context = ssl._create_unverified_context()
opener = urllib.request.build_opener(
    urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
)

for attempt in range(attempts):
    if attempt:
        time.sleep(2)
    try:
        with opener.open(url, timeout=5) as response:
            if response.status != 200:
                sys.exit(f"unexpected status {response.status}")
            about = json.load(response)
            if all(route["ready"] for route in about.get("routes", [])):
                sys.exit()
            said = about["status"]
    except urllib.error.HTTPError as error:
        said = f"{error.code} {error.read(2000).decode(errors='replace')}"
    except OSError as error:
        said = f"{type(error).__name__}: {error}"
    sys.stderr.write(f"{url}: {said}\n")

sys.exit("The proxy is not ready. Its log says why: kubectl logs deployment/<name of the release>")
