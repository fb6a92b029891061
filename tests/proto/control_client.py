#!/usr/bin/env python3
"""Speaks the control service of proto/control.proto: Status, then Generate, greedy; prints the tokens.

usage: control_client.py ADDRESS PROMPT [--key-file FILE] [--max-tokens N] [--timeout SECONDS]
needs: pyzmq, protobuf, protoc. Exit code: 0, or the gRPC status of the call that failed, or 14 when nobody answers.
"""
import argparse
import importlib
import pathlib
import subprocess
import sys
import tempfile

import zmq

ROOT = pathlib.Path(__file__).resolve().parents[2]


def load_messages():
    """Compiles control.proto for this run; nothing generated is kept."""
    with tempfile.TemporaryDirectory() as out:
        subprocess.run(["protoc", f"--python_out={out}", f"-I{ROOT}", "proto/control.proto"], check=True, cwd=ROOT)
        sys.path.insert(0, str(pathlib.Path(out) / "proto"))
        sys.dont_write_bytecode = True
        return importlib.import_module("control_pb2")


class Client:
    def __init__(self, pb, address, key_file, timeout_s):
        self.pb, self.last_id = pb, 0
        self.socket = zmq.Context.instance().socket(zmq.DEALER)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.setsockopt(zmq.RCVTIMEO, int(timeout_s * 1000))
        if key_file:
            keys = dict(line.split() for line in pathlib.Path(key_file).read_text().splitlines())
            self.socket.curve_serverkey = keys["server"].encode()
            self.socket.curve_publickey = keys["public"].encode()
            self.socket.curve_secretkey = keys["secret"].encode()
        self.socket.connect(address)

    def call(self, **body):
        """Sends one call and yields its frames; the last one has end set and a good status."""
        self.last_id += 1
        self.socket.send(self.pb.ClientFrame(call_id=self.last_id, **body).SerializeToString())
        while True:
            frame = self.pb.ServerFrame.FromString(self.socket.recv())
            if frame.call_id != self.last_id:
                continue
            if frame.end and frame.status != self.pb.GRPC_OK:
                print(f"{self.pb.GrpcStatus.Name(frame.status)}: {frame.message}", file=sys.stderr)
                sys.exit(frame.status)
            yield frame
            if frame.end:
                return


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("address")
    parser.add_argument("prompt")
    parser.add_argument("--key-file")
    parser.add_argument("--max-tokens", type=int, default=32)
    parser.add_argument("--timeout", type=float, default=60)
    args = parser.parse_args()
    pb = load_messages()
    client = Client(pb, args.address, args.key_file, args.timeout)
    try:
        for frame in client.call(status=pb.StatusRequest()):
            status = frame.status_reply
            print(f"model {status.model}, {status.state}, {len(status.ranks)} ranks")
        request = pb.GenerateRequest(text=args.prompt, max_tokens=args.max_tokens,
                                     sampling=pb.Sampling(temperature=0, top_p=1, repetition_penalty=1))
        tokens, text = [], ""
        for frame in client.call(generate=request):
            tokens += frame.event.token_ids
            text += frame.event.text
        print("tokens:", *tokens)
        print(text)
    except zmq.Again:
        print(f"no answer from {args.address} within {args.timeout} s", file=sys.stderr)
        sys.exit(14)


if __name__ == "__main__":
    main()
