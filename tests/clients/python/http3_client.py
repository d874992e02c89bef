"""A client of HTTP/3 (aioquic) that does what lines of JSON on its input say, and answers each with one on its output."""

import asyncio
import hashlib
import json
import sys

from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.h3.connection import H3_ALPN, H3Connection
from aioquic.h3.events import DataReceived, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.events import ConnectionTerminated, StopSendingReceived, StreamDataReceived, StreamReset


class Answer:
    def __init__(self):
        self.heads = []
        self.size = 0
        self.digest = hashlib.sha256()
        self.text = b""
        self.reset = None
        self.stopped = None
        self.ended = False
        self.head = asyncio.Event()
        self.over = asyncio.Event()

    def told(self):
        fields = [[name.decode(), value.decode("latin1")] for name, value in self.heads[0]] if self.heads else []
        trailers = [[name.decode(), value.decode("latin1")] for name, value in self.heads[1]] if len(self.heads) > 1 else []
        return {
            "status": int(dict(fields).get(":status", 0)),
            "headers": dict(fields),
            "trailers": dict(trailers),
            "size": self.size,
            "sha256": self.digest.hexdigest(),
            "text": self.text.decode("latin1"),
            "reset": self.reset,
            "stopped": self.stopped,
            "ended": self.ended,
        }


class Client(QuicConnectionProtocol):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.h3 = H3Connection(self._quic)
        self.answers = {}
        self.control = b""
        self.gone = asyncio.get_running_loop().create_future()

    def answer(self, stream):
        return self.answers.setdefault(stream, Answer())

    def quic_event_received(self, event):
        if isinstance(event, ConnectionTerminated):
            if not self.gone.done():
                self.gone.set_result({"code": event.error_code, "reason": event.reason_phrase})
            for answer in self.answers.values():
                answer.head.set()
                answer.over.set()
            return
        if isinstance(event, StreamDataReceived) and event.stream_id % 4 == 3:
            self.control += event.data
        if isinstance(event, StreamReset):
            answer = self.answer(event.stream_id)
            answer.reset = event.error_code
            answer.head.set()
            answer.over.set()
        if isinstance(event, StopSendingReceived):
            self.answer(event.stream_id).stopped = event.error_code
        for told in self.h3.handle_event(event):
            answer = self.answer(told.stream_id)
            if isinstance(told, HeadersReceived):
                answer.heads.append(told.headers)
                answer.head.set()
            elif isinstance(told, DataReceived):
                answer.size += len(told.data)
                answer.digest.update(told.data)
                if len(answer.text) < 65536:
                    answer.text += told.data
            if told.stream_ended:
                answer.ended = True
                answer.over.set()

    def body(self, order):
        if "size" in order:
            return b"x" * order["size"]
        return order.get("body", "").encode("latin1")

    async def do(self, order):
        what = order["do"]
        if what == "begin":
            stream = self._quic.get_next_available_stream_id()
            self.answer(stream)
            fields = [(name.encode("latin1"), value.encode("latin1")) for name, value in order["fields"]]
            body, trailers = self.body(order), order.get("trailers")
            end = order.get("end", True)
            self.h3.send_headers(stream, fields, end_stream=end and not body and not trailers)
            if body:
                self.h3.send_data(stream, body, end_stream=end and not trailers)
            if trailers:
                sent = [(name.encode(), value.encode()) for name, value in trailers]
                self.h3.send_headers(stream, sent, end_stream=end)
            self.transmit()
            return {"stream": stream}
        if what == "raw":
            stream = order.get("stream")
            if stream is None:
                stream = self._quic.get_next_available_stream_id(is_unidirectional=order.get("uni", False))
            self.answer(stream)
            self._quic.send_stream_data(stream, bytes.fromhex(order.get("hex", "")), end_stream=order.get("end", False))
            self.transmit()
            return {"stream": stream}
        if what == "more":
            self.h3.send_data(order["stream"], self.body(order), end_stream=order.get("end", False))
            self.transmit()
            return {}
        if what == "cancel":
            self._quic.reset_stream(order["stream"], 0x10C)
            self._quic.stop_stream(order["stream"], 0x10C)
            self.transmit()
            return {}
        if what == "stop":
            self._quic.stop_stream(order["stream"], 0x10C)
            self.transmit()
            return {}
        if what == "head":
            await self.answer(order["stream"]).head.wait()
            return self.answer(order["stream"]).told()
        if what == "answer":
            await self.answer(order["stream"]).over.wait()
            return self.answer(order["stream"]).told()
        if what == "gone":
            return await asyncio.shield(self.gone)
        if what == "control":
            return {"hex": self.control.hex()}
        if what == "stall":
            # From now on the client takes nothing more than it has allowed already.
            self._quic._write_connection_limits = lambda *_, **__: None
            self._quic._write_stream_limits = lambda *_, **__: None
            return {}
        raise ValueError(what)


def say(told):
    print(json.dumps(told), flush=True)


async def main():
    options = json.loads(sys.argv[1])
    configuration = QuicConfiguration(is_client=True, alpn_protocols=options.get("alpn", H3_ALPN))
    configuration.server_name = options["name"]
    configuration.load_verify_locations(cafile=options["ca"])
    configuration.idle_timeout = options.get("idle", 60)
    if "window" in options:
        configuration.max_data = configuration.max_stream_data = options["window"]
    reader = asyncio.StreamReader(limit=2**26)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    try:
        async with asyncio.timeout(options.get("patience", 20)):
            quic = QuicConnection(configuration=configuration)
            local = ("127.0.0.1", 0)
            _, client = await asyncio.get_running_loop().create_datagram_endpoint(lambda: Client(quic), local_addr=local)
            client.connect(("127.0.0.1", options["port"]))
            await client.wait_connected()
    except (ConnectionError, TimeoutError) as error:
        say({"id": 0, "failed": type(error).__name__})
        return
    say({"id": 0, "opened": True})
    tasks = set()

    async def obey(order):
        try:
            told = await client.do(order)
        except Exception as error:  # the test sees what it is
            told = {"error": repr(error)}
        say({"id": order["id"], **told})

    while line := await reader.readline():
        task = asyncio.create_task(obey(json.loads(line)))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    client.close()
    client.transmit()


asyncio.run(main())
