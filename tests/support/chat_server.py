"""`python chat_server.py PORT`: a chat server that starts at once and answers with its process id

It prints the port that it has.
"""

import json
import os
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Chat(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.answer({})

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        said = {"role": "assistant", "content": str(os.getpid())}
        self.answer(
            {"choices": [{"finish_reason": "stop", "message": said}], "usage": {"completion_tokens": 1}}
        )

    def answer(self, body):
        data = json.dumps(body).encode()
        self.send_response_only(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


if __name__ == "__main__":
    with ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Chat) as server:
        print(server.server_port, flush=True)
        server.serve_forever()
