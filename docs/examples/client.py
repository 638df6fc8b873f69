#!/usr/bin/env python3
"""A small client of Timberline: plain mode, JSON, standard library only.

    client.py SERVER_PORT TOKEN [PEER TEXT...]

It logs in, sends each TEXT to PEER until it is durable, syncs the whole timeline
and prints it, one "seq sender: text" a line. Written from docs/protocol.md. It
keeps nothing on disk, so it need not settle: a client that does should. sealed.py
puts sealed mode around it.
"""

import base64, json, os, socket, sys, time

ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def text_of(id):
    number = int.from_bytes(id, "big")
    return "".join(ALPHABET[number >> 5 * i & 31] for i in reversed(range(26)))


def protobuf(data):
    """Returns the fields of a message, numbers and bytes: pairs with the field's number."""
    fields, at = [], 0

    def varint():
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            value, shift, at = value | (byte & 127) << shift, shift + 7, at + 1
            if byte < 128:
                return value

    while at < len(data):
        tag = varint()
        value = varint()
        if tag & 7 == 2:
            value, at = data[at : at + value], at + value
        fields.append((tag >> 3, value))
    return fields


class Client:
    def __init__(self, port, token):
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.connect(("127.0.0.1", port))
        self.session, self.number, self.through, self.refused, self.pongs = None, 0, 0, {}, 0
        self.head, self.entries, self.parts, self.syncs = 0, {}, {}, 0
        self.unseen = set()  # messages of our own that are durable, and in no timeline yet
        self.token = token
        self.login()

    def login(self):
        self.repeat("login", self.login_frame(), lambda: self.session, tries=5)

    def login_frame(self):
        return {"version": 1, "attempt": text_of(os.urandom(16)), "token": self.token}

    def say(self, name, frame):
        line = {name: frame, **({"session": self.session} if self.session else {})}
        self.transmit(json.dumps(line).encode())

    def transmit(self, packet):
        try:
            self.socket.send(packet)
        except ConnectionRefusedError:
            pass  # as good as lost

    def frames(self, packet):
        """Returns the frames of a packet, as pairs of name and fields."""
        return [pair for line in packet.decode().splitlines() for pair in json.loads(line).items()]

    def repeat(self, name, frame, done, tries=20):
        """Says it until it is done."""
        self.again(name, lambda: self.say(name, frame() if callable(frame) else frame), done, tries)

    def again(self, name, act, done, tries):
        """Acts until it is done, with pauses that grow."""
        pause = 0.5
        for n in range(tries):
            act()
            if self.hear(pause, done):
                return
            pause = min(2 * pause, 3)
            if n == 2:
                print(f"no answer to {name} yet", file=sys.stderr)
        raise TimeoutError(f"no answer to {name}: is the server there, in this mode, and the token good?")

    def hear(self, seconds, done):
        """Takes in frames until done() is true; returns whether it is."""
        end = time.monotonic() + seconds
        while not done() and (left := end - time.monotonic()) > 0:
            self.socket.settimeout(left)
            try:
                packet = self.socket.recv(2000)
            except (TimeoutError, ConnectionRefusedError):
                continue
            for name, frame in self.frames(packet):
                getattr(self, "on_" + name, lambda frame: None)(frame)
        return done()

    def on_accepted(self, f):
        self.session = f["session"]
        self.head = int(f.get("head", 0))

    def on_denied(self, f):
        sys.exit(f"denied: {f.get('reason')} {f.get('detail', '')}")

    def on_closed(self, f):
        if f.get("reason") != "logged_out":
            sys.exit(f"closed: {f.get('reason', 'the server has forgotten the session')}")

    def on_ack(self, f):
        for run in f.get("refused", []):
            for n in range(int(run["from"]), int(run["to"]) + 1):
                self.refused[n] = run["reason"]
        self.through = max(self.through, int(f.get("through", 0)))

    def on_push(self, f):
        for i, event in enumerate(f.get("events", [])):
            self.head = max(self.head, int(f["from"]) + i)
            self.unseen.discard(event.get("message"))
            if not f.get("omitted"):
                self.entry(int(f["from"]) + i, event)
        self.say("got", {"cursor": self.have()})

    def on_page(self, f):
        self.head = max(self.head, int(f.get("head", 0)))
        for i, event in enumerate(f.get("events", [])):
            self.entry(int(f["from"]) + i, event)

    def on_part(self, f):
        seq, count = int(f["seq"]), int(f["count"])
        self.head = max(self.head, seq)
        parts = self.parts.setdefault(seq, {})
        parts[int(f.get("index", 0))] = base64.b64decode(f["data"])
        if len(parts) == count:
            event = dict(protobuf(b"".join(parts[i] for i in range(count))))
            text = event.get(11, b"").decode(errors="replace")
            kind = "message" if event.get(2) == 1 else "another"
            self.entry(seq, {"kind": kind, "sender": event[4].decode(), "message": text_of(event.get(9, bytes(16))), "text": text})
            del self.parts[seq]

    def entry(self, seq, event):
        self.unseen.discard(event.get("message"))
        body = base64.b64decode(event.get("body", "")).decode(errors="replace")
        said = (event.get("sender", ""), event.get("text", body))
        self.entries.setdefault(seq, said if event.get("kind") == "message" else None)  # others have a seq all the same

    def send(self, to, text):
        """Sends a message of less than a packet; returns when it is durable."""
        message = text_of(os.urandom(16))
        self.unseen.add(message)
        self.deliver({"to": to, "message": message, "text": text})

    def deliver(self, message):
        n = self.number = self.number + 1
        self.repeat("send", {"n": n, "low": n, **message}, lambda: self.through >= n)
        if n in self.refused:
            sys.exit(f"refused: {self.refused[n]}")

    def have(self):
        seq = 0
        while seq + 1 in self.entries:
            seq += 1
        return seq

    def sync(self):
        """Fetches what is missing, until everything is there up to the head, and
        our own messages, too: an ack may come before the timeline has them."""

        def ask():
            self.syncs += 1
            return {"id": self.syncs, "ranges": [{"after": self.have()}]}

        self.ping()
        while self.have() < self.head or self.unseen:
            if self.have() == self.head:
                self.hear(0.2, lambda: not self.unseen)
                self.ping()
                continue
            before = self.have()
            self.repeat("sync", ask, lambda: self.have() > before)
            self.hear(0.05, lambda: self.have() == self.head)  # what else is on its way

    def ping(self):
        """Asks where the timeline ends."""
        self.pongs = 0
        self.repeat("ping", self.ping_frame(), lambda: self.pongs)

    def ping_frame(self):
        return {"id": 1, "low": self.number + 1}

    def on_pong(self, f):
        self.head = max(self.head, int(f.get("head", 0)))
        self.pongs += 1

    def close(self):
        self.say("bye", {})


def run(client, rest):
    """Does what the command line asks of a client that is logged in."""
    for text in rest[1:]:
        client.send(rest[0], text)
    client.sync()
    for seq, said in sorted(client.entries.items()):
        if said:
            print(f"{seq} {said[0]}: {said[1]}")
    client.close()


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    port, token, *rest = sys.argv[1:]
    try:
        run(Client(int(port), token), rest)
    except TimeoutError as late:
        sys.exit(str(late))
