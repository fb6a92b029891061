#!/usr/bin/env python3
"""Records what the official openai client sends, for test_openai.c, and checks what it makes of the answers.

usage: record_openai.py BUILD/tests/api/api_serve_fake OUT_DIR     (needs `pip install openai`)
"""
import json, pathlib, re, socket, subprocess, sys, threading

import openai

CASES = ["capital of France", "capital of France", "thinking sum", "thinking sum", "tool call", "tool call",
         "answer from tool result", "answer from tool result", "capital of France", "capital of Japan"]
TOOLS = [{"type": "function", "function": {
    "name": "get_price", "description": "Get the price of an item",
    "parameters": {"type": "object", "properties": {"item": {"type": "string"}}, "required": ["item"]}}}]
ASK = [{"role": "user", "content": "What is the capital of France?"}]
PRICE = [{"role": "user", "content": "Can you tell me the price of a cake?"}]


class Recorder(threading.Thread):
    """Forwards one connection after the other and keeps the bytes of the last request."""

    def __init__(self, port):
        super().__init__(daemon=True)
        self.to, self.last = port, b""
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]

    def run(self):
        while True:
            client, _ = self.listener.accept()
            threading.Thread(target=self.forward, args=(client,), daemon=True).start()

    def forward(self, client):
        server = socket.create_connection(("127.0.0.1", self.to))
        threading.Thread(target=self.copy, args=(server, client), daemon=True).start()
        fresh = True
        while data := client.recv(65536):
            self.last = data if fresh or data.startswith((b"POST ", b"GET ")) else self.last + data
            fresh = False
            server.sendall(data)
        server.close()

    @staticmethod
    def copy(server, client):
        while data := server.recv(65536):
            client.sendall(data)
        client.close()


# What a model of another family answers: one turn, whole and streamed, then the next one, likewise.
PRICE_ANSWER = "The price of a cake is 12 dollars."
ANSWERS = {
    "glm": ["Look it up.</think>\n<tool_call>get_price<arg_key>item</arg_key><arg_value>cake</arg_value></tool_call>",
            f"12.</think>{PRICE_ANSWER}"],
    "kimi": ["<think>Look it up.</think><|tool_calls_section_begin|><|tool_call_begin|>functions.get_price:0"
             "<|tool_call_argument_begin|>{\"item\": \"cake\"}<|tool_call_end|><|tool_calls_section_end|>",
             f"<think>12.</think>{PRICE_ANSWER}"]}


class Server:
    """api_serve_fake with these arguments, behind a recorder."""

    def __init__(self, serve, out, *args):
        self.out = out
        self.child = subprocess.Popen([serve, *args], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.recorder = Recorder(int(self.child.stdout.readline()))
        self.recorder.start()
        self.client = openai.OpenAI(base_url=f"http://127.0.0.1:{self.recorder.port}/v1", api_key="unused",
                                    max_retries=0)

    def keep(self, name):
        text = re.sub(rb"Host: [^\r]*", b"Host: localhost", self.recorder.last, flags=re.I)
        text = re.sub(rb"Connection: [^\r]*", b"Connection: close", text, flags=re.I)
        (self.out / f"{name}.http").write_bytes(text)

    def close(self):
        self.child.stdin.close()
        assert self.child.wait(10) == 0


def tool_turns(client, keep, prefix):
    """A call, whole and streamed, and the turns after it."""
    a = client.chat.completions.create(model="demo", messages=PRICE, tools=TOOLS, tool_choice="auto",
                                       temperature=0)
    call = a.choices[0].message.tool_calls[0]
    assert call.function.name == "get_price" and json.loads(call.function.arguments) == {"item": "cake"}
    assert a.choices[0].finish_reason == "tool_calls" and a.choices[0].message.content is None, a
    keep("tools")  # the same for every family
    whole = [*PRICE, a.choices[0].message, {"role": "tool", "tool_call_id": call.id, "content": "12 dollars"}]

    with client.chat.completions.stream(model="demo", messages=PRICE, tools=TOOLS, temperature=0) as stream:
        final = stream.get_final_completion()
    call = final.choices[0].message.tool_calls[0]
    assert call.function.name == "get_price" and json.loads(call.function.arguments) == {"item": "cake"}, final
    keep("tools_stream")
    streamed = [*PRICE, final.choices[0].message,
                {"role": "tool", "tool_call_id": call.id, "content": "12 dollars"}]

    a = client.chat.completions.create(model="demo", messages=whole, tools=TOOLS, temperature=0)
    assert a.choices[0].message.content and a.choices[0].finish_reason == "stop", a
    keep(prefix + "tool_result")
    text = ""
    for chunk in client.chat.completions.create(model="demo", messages=streamed, tools=TOOLS, temperature=0,
                                                stream=True):
        text += chunk.choices[0].delta.content or ""
    assert text == a.choices[0].message.content, text
    keep(prefix + "tool_result_stream")
    return a.choices[0].message, call.id


def main():
    serve, out = sys.argv[1], pathlib.Path(sys.argv[2])
    for family, (ask, answer) in ANSWERS.items():
        server = Server(serve, out, "--chat", family, ask, ask, answer, answer)
        message, call_id = tool_turns(server.client, server.keep, f"{family}_")
        assert message.content == PRICE_ANSWER and message.reasoning_content == "12.", message
        assert call_id == "functions.get_price:0" or family != "kimi", call_id
        server.close()

    server = Server(serve, out, *CASES)
    client, keep = server.client, server.keep

    a = client.chat.completions.create(model="demo", messages=ASK, temperature=0)
    assert a.choices[0].message.content == "The capital of France is Paris.", a
    assert a.usage.completion_tokens == 11 and a.choices[0].finish_reason == "stop"
    keep("chat")

    text, usage = "", None
    for chunk in client.chat.completions.create(model="demo", messages=ASK, stream=True, logprobs=True,
                                                top_logprobs=2, stream_options={"include_usage": True}):
        usage = chunk.usage or usage
        for choice in chunk.choices:
            text += choice.delta.content or ""
    assert text == "The capital of France is Paris." and usage.total_tokens == 24, (text, usage)
    keep("chat_stream")

    think = [{"role": "user", "content": "What is 345 + 278?"}]
    a = client.chat.completions.create(model="demo", messages=think, temperature=0,
                                       extra_body={"chat_template_kwargs": {"thinking": True}})
    message = a.choices[0].message
    assert message.content == "345 + 278 = 623." and message.reasoning_content.startswith("5+8=13"), message
    assert message.reasoning == message.reasoning_content
    keep("reasoning")

    content, reasoning = "", ""
    for chunk in client.chat.completions.create(model="demo", messages=think, temperature=0, stream=True,
                                                reasoning_effort="low"):
        delta = chunk.choices[0].delta
        content += delta.content or ""
        reasoning += getattr(delta, "reasoning_content", None) or ""
    assert (content, reasoning) == (message.content, message.reasoning_content)
    keep("reasoning_stream")

    tool_turns(client, keep, "")

    a = client.completions.create(model="demo", prompt="The capital", max_tokens=4, n=2, logprobs=1, seed=7)
    assert [c.text for c in a.choices] == ["The capital of F", "The capital of Japan"], a
    keep("completion")

    assert [m.id for m in client.models.list()] == ["demo"]
    keep("models")
    try:
        client.chat.completions.create(model="demo", messages=ASK, n=99)
        raise AssertionError("n = 99 was taken")
    except openai.BadRequestError as e:
        assert e.body["param"] == "n", e.body
    keep("refused")
    server.close()
    print("recorded with openai", openai.__version__)


main()
