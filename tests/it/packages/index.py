"""A package index of PyPI's and of npm's form on loopback, with one package in each: `greet`.

Prints its port. Each request is a line of `requests` in the directory that is given. While that directory
has a file `hold`, requests for the packages themselves wait.
"""

import hashlib
import http.server
import io
import json
import os
import sys
import tarfile
import time
import zipfile

directory = sys.argv[1]
WHEEL = "greet-1.0-py3-none-any.whl"
TARBALL = "greet-1.0.0.tgz"


def wheel():
    files = {
        "greet.py": "WORD = 'hello from the index'\n",
        "greet-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: greet\nVersion: 1.0\n",
        "greet-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{name},,\n" for name in files) + "greet-1.0.dist-info/RECORD,,\n"
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name, text in {**files, "greet-1.0.dist-info/RECORD": record}.items():
            archive.writestr(name, text)
    return made.getvalue()


def tarball():
    files = {
        "package/package.json": json.dumps({"name": "greet", "version": "1.0.0", "main": "index.js"}),
        "package/index.js": "module.exports = 'hello from the index';\n",
    }
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as archive:
        for name, text in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(text)
            archive.addfile(entry, io.BytesIO(text.encode()))
    return made.getvalue()


PACKAGES = {f"/files/{WHEEL}": wheel(), f"/files/{TARBALL}": tarball()}


def document(path, port):
    if path == "/simple/greet/":
        return f'<a href="../../files/{WHEEL}">{WHEEL}</a>'.encode()
    if path == "/npm/greet":
        dist = {
            "tarball": f"http://127.0.0.1:{port}/files/{TARBALL}",
            "shasum": hashlib.sha1(PACKAGES[f"/files/{TARBALL}"]).hexdigest(),
        }
        version = {"name": "greet", "version": "1.0.0", "main": "index.js", "dist": dist}
        return json.dumps(
            {"name": "greet", "dist-tags": {"latest": "1.0.0"}, "versions": {"1.0.0": version}}
        ).encode()
    return None


class Index(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        with open(os.path.join(directory, "requests"), "a") as log:
            log.write(self.path + "\n")
        if self.path in PACKAGES:
            while os.path.exists(os.path.join(directory, "hold")):
                time.sleep(0.05)
        body = PACKAGES.get(self.path) or document(self.path, self.server.server_port)
        self.send_response(404 if body is None else 200)
        kind = "text/html" if self.path.startswith("/simple") else "application/octet-stream"
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body or b"")))
        self.end_headers()
        self.wfile.write(body or b"")

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Index)
print(server.server_port, flush=True)
server.serve_forever()
