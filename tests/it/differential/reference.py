"""Reads HTTP requests with Python's own parsers and says what it has read.

Standard input holds cases: four bytes that tell a length, and as many bytes that came over one
connection. Standard output gets a line of JSON for each: the requests read until there was no more
to read, or until Python would not go on. Bytes are written in hexadecimal."""

import http.client
import http.server
import io
import json
import sys


class Stream(io.BytesIO):
    """Stays open whoever has read to an end."""

    def close(self):
        pass


class Reader(http.server.BaseHTTPRequestHandler):
    def __init__(self, stream):
        self.rfile = stream
        self.wfile = io.BytesIO()
        self.is_refused = False

    def send_error(self, *_):
        self.is_refused = True

    def read(self):
        """One request; None when there is none."""
        self.raw_requestline = self.rfile.readline()
        while self.raw_requestline == b"\r\n":
            self.raw_requestline = self.rfile.readline()
        if not self.raw_requestline or not self.parse_request() or self.is_refused:
            return None
        # The path is changed by Python where it begins with two slashes.
        target = self.raw_requestline.decode("latin-1").split()[1]
        body = self.read_body()
        if body is None:
            return None
        headers = [
            [name.encode("latin-1").hex(), value.strip(" \t").encode("latin-1").hex()]
            for name, value in self.headers.raw_items()
        ]
        return {
            "method": self.command,
            "target": target,
            "version": self.request_version,
            "headers": headers,
            "body": body.hex(),
            "end": self.rfile.tell(),
        }

    def read_body(self):
        codings = self.headers.get_all("Transfer-Encoding", [])
        lengths = self.headers.get_all("Content-Length", [])
        if codings:
            return self.read_chunks() if codings[-1].strip().lower() == "chunked" else None
        length = int(lengths[-1]) if lengths else 0
        body = self.rfile.read(length)
        return body if len(body) == length else None

    def read_chunks(self):
        stream = self.rfile

        class Socket:
            def makefile(self, _):
                return stream

        response = http.client.HTTPResponse(Socket())
        response.chunked = True
        response.chunk_left = None
        return response.read()


def requests(data):
    stream = Stream(data)
    read = []
    while True:
        try:
            request = Reader(stream).read()
        except (http.client.HTTPException, ValueError):
            request = None
        if request is None:
            return read
        read.append(request)


def main():
    source = sys.stdin.buffer
    while prefix := source.read(4):
        print(json.dumps(requests(source.read(int.from_bytes(prefix, "big")))))


main()
