"""Posts the JSON on standard input over TLS, with a client certificate, and tells status and body as JSON.

Arguments: port, path, the authorities' file, and the file of certificate and key, or nothing for none.
"""

import http.client
import json
import ssl
import sys

port, path, authorities, *certificate = sys.argv[1:]
context = ssl.create_default_context(cafile=authorities)
if certificate:
    context.load_cert_chain(certificate[0])
connection = http.client.HTTPSConnection("localhost", int(port), context=context)
connection.request("POST", path, sys.stdin.read(), {"content-type": "application/json"})
answer = connection.getresponse()
print(json.dumps({"status": answer.status, "body": json.loads(answer.read())}))
