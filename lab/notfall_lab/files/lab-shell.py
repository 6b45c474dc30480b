"""The tests' way into a guest: POST / {"script", "timeout"} runs a shell script as root.

Part of the lab only. Bound to all addresses: the lab's network reaches nothing else.
"""

import json
import subprocess
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        job = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        try:
            done = subprocess.run(
                ["/bin/bash", "-c", job["script"]],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                check=False,
                timeout=job["timeout"],
                cwd="/root",
                env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LC_ALL": "C.UTF-8"},
            )
            code, out, err = done.returncode, done.stdout, done.stderr
        except subprocess.TimeoutExpired as error:
            code, out, err = 124, error.stdout or b"", error.stderr or b""
        answer = {
            "code": code,
            "out": out.decode("utf-8", "replace"),
            "err": err.decode("utf-8", "replace"),
        }
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


ThreadingHTTPServer(("", 2222), Handler).serve_forever()
