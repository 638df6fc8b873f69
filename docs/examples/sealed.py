#!/usr/bin/env python3
"""A client of Timberline in sealed mode: JSON, standard library only.

    sealed.py SERVER_PORT SERVER_KEY TOKEN [PEER TEXT...]
    sealed.py --vectors FOLDER

The first does what client.py does, sealed. SERVER_KEY is the server's public key
as the server prints it. The second checks this file against the packets in FOLDER,
wire/testdata/sealed. Written from docs/protocol.md. When a session is lost it
connects anew, and settles a send without an answer before it sends it again.

Its X25519 and AES are here to be read and to show that the page is complete. They
are slow, and the time they take tells of the keys: use a library for more.
"""

import base64, copy, glob, hashlib, hmac, json, os, random, socket, sys, time

from client import Client, protobuf, run, text_of

HELLO, RETRY, WELCOME, DATA, RESET = 1, 2, 3, 4, 5
VERSION = 1


# X25519, of RFC 7748

PRIME = 2**255 - 19


def x25519(private, public):
    k = int.from_bytes(private, "little") & ~(7 | 1 << 255) | 1 << 254
    u = int.from_bytes(public, "little") & (1 << 255) - 1
    x2, z2, x3, z3, swapped = 1, 0, u, 1, 0
    for t in reversed(range(255)):
        bit = k >> t & 1
        if bit != swapped:
            x2, z2, x3, z3, swapped = x3, z3, x2, z2, bit
        a, b, c, d = x2 + z2, x2 - z2, x3 + z3, x3 - z3
        da, cb, aa, bb = d * a % PRIME, c * b % PRIME, a * a % PRIME, b * b % PRIME
        x3, z3 = (da + cb) ** 2 % PRIME, u * (da - cb) ** 2 % PRIME
        x2, z2 = aa * bb % PRIME, (aa - bb) * (aa + 121665 * (aa - bb)) % PRIME
    if swapped:
        x2, z2 = x3, z3
    return (x2 * pow(z2, PRIME - 2, PRIME) % PRIME).to_bytes(32, "little")


BASE = bytes([9]) + bytes(31)


# AES-256-GCM, of FIPS 197 and SP 800-38D


def aes_tables():
    powers = [1]  # of 3, in the field of AES
    for _ in range(254):
        p = powers[-1] ^ powers[-1] << 1
        powers.append(p ^ 0x11B if p > 255 else p)
    sbox = [0x63] * 256
    for i, p in enumerate(powers):
        b = powers[-i % 255]  # the inverse
        b ^= b << 1 ^ b << 2 ^ b << 3 ^ b << 4
        sbox[p] = (b ^ b >> 8) & 255 ^ 0x63
    columns = []  # SubBytes and MixColumns, for each of the four rows
    for s in sbox:
        s2 = s << 1 ^ (0x11B if s > 127 else 0)
        columns.append(s2 << 24 | s << 16 | s << 8 | s2 ^ s)
    return sbox, [[c >> 8 * row | c << 32 - 8 * row & 0xFFFFFFFF for c in columns] for row in range(4)]


SBOX, (T0, T1, T2, T3) = aes_tables()


class AEAD:
    def __init__(self, key):
        words, rcon = [int.from_bytes(key[i : i + 4], "big") for i in range(0, 32, 4)], 1
        for i in range(8, 60):
            w = words[-1]
            if i % 8 == 0:
                w = (w << 8 | w >> 24) & 0xFFFFFFFF
            if i % 4 == 0:
                w = int.from_bytes(bytes(SBOX[b] for b in w.to_bytes(4, "big")), "big")
            if i % 8 == 0:
                w, rcon = w ^ rcon << 24, rcon << 1
            words.append(words[-8] ^ w)
        self.words = words
        h = self.block(bytes(16))
        self.powers = []  # h, and h times x, x², … in the field of GHASH, where the highest bit is 1
        for _ in range(128):
            self.powers.append(h)
            h = h >> 1 ^ (0xE1 << 120 if h & 1 else 0)

    def block(self, data):
        """Encrypts 16 bytes; returns them as a number."""
        k = self.words
        a, b, c, d = (int.from_bytes(data[4 * i : 4 * i + 4], "big") ^ k[i] for i in range(4))
        for r in range(4, 56, 4):
            a, b, c, d = (
                T0[a >> 24] ^ T1[b >> 16 & 255] ^ T2[c >> 8 & 255] ^ T3[d & 255] ^ k[r],
                T0[b >> 24] ^ T1[c >> 16 & 255] ^ T2[d >> 8 & 255] ^ T3[a & 255] ^ k[r + 1],
                T0[c >> 24] ^ T1[d >> 16 & 255] ^ T2[a >> 8 & 255] ^ T3[b & 255] ^ k[r + 2],
                T0[d >> 24] ^ T1[a >> 16 & 255] ^ T2[b >> 8 & 255] ^ T3[c & 255] ^ k[r + 3],
            )
        last = 0
        for i, (p, q, r, s) in enumerate([(a, b, c, d), (b, c, d, a), (c, d, a, b), (d, a, b, c)]):
            word = SBOX[p >> 24] << 24 | SBOX[q >> 16 & 255] << 16 | SBOX[r >> 8 & 255] << 8 | SBOX[s & 255]
            last = last << 32 | word ^ k[56 + i]
        return last

    def crypt(self, nonce, data):
        stream = b"".join(
            self.block(nonce + (2 + i).to_bytes(4, "big")).to_bytes(16, "big") for i in range(-(-len(data) // 16))
        )
        return bytes(x ^ y for x, y in zip(data, stream))

    def tag(self, nonce, ad, box):
        y, lengths = 0, (8 * len(ad)).to_bytes(8, "big") + (8 * len(box)).to_bytes(8, "big")
        data = ad + bytes(-len(ad) % 16) + box + bytes(-len(box) % 16) + lengths
        for i in range(0, len(data), 16):
            x, y = y ^ int.from_bytes(data[i : i + 16], "big"), 0
            for bit, power in enumerate(self.powers):
                if x >> 127 - bit & 1:
                    y ^= power
        return (y ^ self.block(nonce + bytes([0, 0, 0, 1]))).to_bytes(16, "big")

    def seal(self, counter, ad, text):
        nonce = bytes(4) + counter.to_bytes(8, "big")
        box = self.crypt(nonce, text)
        return box + self.tag(nonce, ad, box)

    def open(self, counter, ad, sealed):
        nonce = bytes(4) + counter.to_bytes(8, "big")
        box, tag = sealed[:-16], sealed[-16:]
        if not hmac.compare_digest(tag, self.tag(nonce, ad, box)):
            raise ValueError("does not open")
        return self.crypt(nonce, box)


# Sealed mode. Whatever must be dropped is a ValueError.


class Handshake:
    """The client's side of Noise NK. steps tells each step, for the test vectors."""

    def __init__(self, server, private):
        self.private, self.k, self.steps = private, None, []
        name = b"Noise_NK_25519_AESGCM_SHA256"
        self.h = self.ck = name + bytes(4)
        self.note("protocol name", name)
        prologue = bytes([HELLO, VERSION]) + server[:8]
        self.mix_hash("prologue", prologue)
        self.mix_hash("pre-message: s", server)
        e = x25519(private, BASE)
        self.mix_hash("message 1: e", e)
        self.mix_key("message 1: es", x25519(private, server))
        tag = AEAD(self.k).seal(0, self.h, b"")
        self.mix_hash("message 1: payload", tag)
        self.hello, self.echo = prologue + e + tag, e[:16]

    def note(self, step, data):
        self.steps = self.steps + [(step, data, self.h, self.ck, self.k)]

    def mix_hash(self, step, data):
        self.h = hashlib.sha256(self.h + data).digest()
        self.note(step, data)

    def mix_key(self, step, secret):
        if not any(secret):
            raise ValueError("a shared secret of zeros")
        self.ck, self.k = self.hkdf(secret)
        self.note(step, secret)

    def hkdf(self, data):
        def mac(key, data):
            return hmac.new(key, data, hashlib.sha256).digest()

        key = mac(self.ck, data)
        one = mac(key, b"\1")
        return one, mac(key, one + b"\2")

    def welcome(self, packet):
        """Takes in WELCOME. Returns another Handshake, with payload and keys."""
        if not 97 <= len(packet) <= 1200 or packet[1:17] != self.echo:
            raise ValueError("not the WELCOME of this HELLO")
        new, e, box = copy.copy(self), packet[17:49], packet[49:]
        new.mix_hash("message 2: e", e)
        new.mix_key("message 2: ee", x25519(self.private, e))
        new.payload = AEAD(new.k).open(0, new.h, box)
        new.mix_hash("message 2: payload", box)
        new.keys = new.hkdf(b"")
        return new


class Way:
    """One direction of a connection: seals, or opens and takes each counter once."""

    def __init__(self, session, key):
        self.head, self.aead = bytes([DATA]) + session, AEAD(key)
        self.next = 0
        self.highest, self.taken = -1, 0  # bit i of taken: highest-i

    def seal(self, frames):
        head = self.head + self.next.to_bytes(8, "big")
        packet = head + self.aead.seal(self.next, head, frames)
        self.next += 1
        return packet

    def open(self, packet):
        counter = int.from_bytes(packet[17:25], "big")
        if packet[:17] != self.head or not 41 <= len(packet) <= 1200 or not self.fresh(counter):
            raise ValueError("not DATA of this session, or taken before")
        frames = self.aead.open(counter, packet[:25], packet[25:])
        self.take(counter)
        return frames

    def fresh(self, counter):
        age = self.highest - counter
        return counter < 1 << 28 and (age < 0 or age < 512 and not self.taken >> age & 1)

    def take(self, counter):
        if counter > self.highest:
            self.taken <<= min(counter - self.highest, 512)
            self.highest = counter
        self.taken = (self.taken | 1 << self.highest - counter) & (1 << 512) - 1


class Connection:
    """The packets of one connection, from HELLO on."""

    def __init__(self, server, cookie, private=None):
        self.handshake = Handshake(server, private or os.urandom(32))
        self.cookie, self.session = cookie, None

    def hello(self):
        return (self.handshake.hello + self.cookie).ljust(256, b"\0")

    def read(self, packet):
        """Returns the type, and of RETRY cause and version, of DATA the frames."""
        kind = packet[0] if packet else None
        if self.session:
            if kind == DATA:
                return DATA, self.reader.open(packet)
            if kind == RESET and hmac.compare_digest(packet, bytes([RESET]) + self.session + self.token):
                return RESET, None
        elif kind == WELCOME:
            self.handshake = self.handshake.welcome(packet)
            payload, keys = self.handshake.payload, self.handshake.keys
            self.session, self.token = payload[:16], payload[16:32]
            self.writer, self.reader = Way(self.session, keys[0]), Way(self.session, keys[1])
            return WELCOME, None
        elif kind == RETRY and len(packet) == 43 and packet[3:19] == self.handshake.echo:
            if packet[2] == 0:
                self.cookie = packet[19:]
            return RETRY, (packet[2], packet[1])
        raise ValueError("a packet of another kind or sender")


class Lost(Exception):
    """The session is over, or none came about: another may do."""


class Sealed(Client):
    def __init__(self, port, key, token):
        self.key, self.cookie, self.store = base64.urlsafe_b64decode(key + "="), bytes(24), None
        if len(self.key) != 32:
            sys.exit("the key of a server has 32 bytes")
        super().__init__(port, token)

    def login(self, settle=None):
        """Connects and logs in. settle is the session that must be settled, if any."""
        self.settle = settle
        for tried in range(10):
            if tried:
                time.sleep(random.uniform(0, min(0.25 * 2**tried, 30)))
            try:
                self.session, self.settled, self.retries = None, None, 0
                self.connection = Connection(self.key, self.cookie)
                self.again("HELLO", self.say_hello, lambda: self.connection.session, 5)
                self.repeat("login", self.login_frame(), lambda: self.session and (self.settled or not settle), 5)
                return
            except (Lost, TimeoutError) as e:
                why = e
                print(f"{why}; is the server there, sealed, and is this its key? trying again", file=sys.stderr)
        raise TimeoutError(f"no session: {why}")

    def say_hello(self):
        self.transmit(self.connection.hello())

    def say(self, name, frame):
        self.transmit(self.connection.writer.seal(json.dumps({name: frame}).encode()))

    def login_frame(self):
        return {**super().login_frame(), **({"settle": [self.settle]} if self.settle else {})}

    def ping_frame(self):
        return {**super().ping_frame(), "padding": base64.b64encode(bytes(24)).decode()}

    def frames(self, packet):
        try:
            kind, content = self.connection.read(packet)
            frames = super().frames(content) if kind == DATA else []
        except ValueError:
            return []  # dropped
        if kind == RESET:
            raise Lost("the server has forgotten the session")
        if kind == RETRY and content[0] == 0:
            self.retries += 1
            if self.retries <= 3:
                self.say_hello()
        elif kind == RETRY:
            cause, version = content
            why = {1: f"the server speaks version {version}", 2: "the server has another key"}.get(cause, f"RETRY {cause}")
            print(why, file=sys.stderr)
            raise Lost(why)
        return frames

    def on_accepted(self, f):
        if self.session:
            return
        if self.store not in (None, f["store"]):
            self.entries, self.parts, self.unseen = {}, {}, set()
        self.store, self.cookie = f["store"], base64.b64decode(f["cookie"])
        self.old = {"session": f["session"], "journal": f["journal"], "offset": f.get("offset", 0)}
        self.number, self.through, self.refused = 0, 0, {}
        super().on_accepted(f)

    def on_settled(self, f):
        if self.settle and f["session"] == self.settle["session"]:
            self.settled = f

    def on_denied(self, f):
        wait = int(f.get("retry_after_ms", 0)) / 1000
        if not wait:
            super().on_denied(f)
        time.sleep(wait)
        raise Lost(f.get("detail"))

    def on_closed(self, f):
        if f.get("reason") in ("replaced", "logged_out"):
            super().on_closed(f)
        else:
            raise Lost(f"closed: {f.get('reason')}")

    def on_challenge(self, f):
        self.say("echo", {"token": f["token"]})

    def deliver(self, message):
        while True:
            n = self.number + 1
            try:
                return super().deliver(message)
            except Lost:
                self.login(self.old)
            if self.settled.get("unknown"):
                sys.exit("nobody can tell whether the message is durable")
            numbers = [int(number) for number in self.settled.get("numbers", [])]
            if any(first <= n <= last for first, last in zip(numbers[::2], numbers[1::2])):
                return

    def sync(self):
        while True:
            try:
                return super().sync()
            except Lost:
                self.login()

    def ping(self):
        """Asks where the timeline ends; from another socket if this one has no answer."""
        self.pongs = 0
        for tries in 3, 1:
            try:
                return self.repeat("ping", self.ping_frame(), lambda: self.pongs, tries)
            except TimeoutError:
                self.move()
        raise Lost("no answer to pings")

    def move(self):
        server = self.socket.getpeername()
        self.socket.close()
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.connect(server)


# The test vectors

KINDS = (
    "login accepted denied send ack busy push part got sync page ping pong settled closed bye challenge echo"
).split()


def check_vectors(folder):
    """Checks everything above against the packets in a folder; returns 1 if something is wrong."""
    passed, failed, skipped = 0, [], []

    def check(name, good):
        nonlocal passed
        passed += bool(good)
        if not good:
            failed.append(name)

    def read(name):
        with open(os.path.join(folder, name), encoding="utf-8") as file:
            return json.load(file)

    def read_all(names):
        return [v for path in sorted(glob.glob(names, root_dir=folder)) for v in read(path)]

    def dropped(read, packet):
        try:
            read(packet)
        except ValueError:
            return True

    def unhex(value):
        return bytes.fromhex(value)

    v = read("handshake.json")
    server, session, token = unhex(v["server_public"]), unhex(v["session"]), unhex(v["reset_token"])

    def greeting(cookie=bytes(24)):
        return Connection(server, cookie, unhex(v["client_ephemeral_private"]))

    def joined():
        connection = greeting()
        connection.read(unhex(v["welcome"]))
        return connection

    def ways():
        return Way(session, unhex(v["key_of_client_packets"])), Way(session, unhex(v["key_of_edge_packets"]))

    check("server key", x25519(unhex(v["server_private"]), BASE) == server)
    check("text of the server key", base64.urlsafe_b64decode(v["server_public_text"] + "=") == server)
    check("client key", x25519(unhex(v["client_ephemeral_private"]), BASE).hex() == v["client_ephemeral_public"])
    check("edge key", x25519(unhex(v["edge_ephemeral_private"]), BASE).hex() == v["edge_ephemeral_public"])
    check("HELLO", greeting().hello().hex() == v["hello"])
    for r in v["retries"]:
        c = greeting()
        got = c.read(unhex(r["packet"]))
        check(f"RETRY {r['cause']}", got == (RETRY, (r["cause"], r["version"])) and c.cookie == unhex(r["cookie"]))
        if r["cause"] == 0:
            check("HELLO with a cookie", c.hello().hex() == v["hello_with_cookie"])
    for name in "welcome", "welcome_of_later_version":
        c = greeting()
        check(name, c.read(unhex(v[name])) == (WELCOME, None) and (c.session, c.token) == (session, token))
        check(name + ", keys", [k.hex() for k in c.handshake.keys] == [v["key_of_client_packets"], v["key_of_edge_packets"]])
    check("text of the session", text_of(session) == v["session_text"])
    steps = joined().handshake.steps
    check("steps", len(steps) == len(v["steps"]))
    for (step, *values), want in zip(steps, v["steps"]):
        values = [value.hex() if value else None for value in values]
        check("step " + want["step"], [step, *values] == [want.get(m) for m in ("step", "input", "h", "ck", "k")])
    check("RESET", joined().read(unhex(v["reset"])) == (RESET, None))

    kinds = {}  # of the frames, by the name of the packet in JSON
    for codec in "json", "protobuf":
        for d in read_all(f"data-{codec}-*.json"):
            name, frames, packet = f"{codec} {d['name']}", unhex(d["frames"]), unhex(d["packet"])
            way = ways()[d["from"] == "edge"]
            way.next = d["counter"]
            check(name + ", sealed", way.seal(frames) == packet)
            check(name + ", opened", way.open(packet) == frames)
            check(name + ", again", dropped(way.open, packet))
            if codec == "json":
                kinds[d["name"]] = [frame for line in frames.splitlines() for frame in json.loads(line)]
            elif d["name"] in kinds:
                frames = [KINDS[number - 1] for _, frame in protobuf(frames) for number, _ in protobuf(frame)]
                check(name + ", frames", frames == kinds[d["name"]])

    for r in read_all("refused-*.json"):
        name, packet = r["name"], unhex(r["packet"])
        if name.startswith("hello-"):
            if "answer" not in r:
                skipped.append(name)  # this is no edge
            else:
                got = greeting().read(unhex(r["answer"]))
                check(name + ", answer", got == (RETRY, ({"version": 1}.get(name[12:], 2), VERSION)))
        elif name.startswith("data-"):
            # Clients and edges read DATA in the same way, with the key of the other.
            way = ways()[r["reader"] == "client"]
            check(name, dropped(way.open, packet))
            way.next = int.from_bytes(packet[17:25], "big") & (1 << 28) - 1
            check(name + ", the true packet after it", way.open(way.seal(b"{}")) == b"{}")
        else:
            c = joined() if name.startswith("reset-") else greeting(unhex(v["retries"][0]["cookie"]))
            check(name, dropped(c.read, packet))
            true = {"reset": v["reset"], "retry": v["retries"][0]["packet"], "welcome": v["welcome"]}[name.split("-")[0]]
            check(name + ", the true packet after it", c.read(unhex(true))[0] == unhex(true)[0])

    way = ways()[1]
    for i, w in enumerate(read("window.json")):
        fresh = way.fresh(w["counter"])
        if fresh:
            way.take(w["counter"])
        check(f"window {i}: {w['counter']}", fresh == w["taken"])

    for name in failed:
        print("FAILED", name)
    print(f"{passed} passed, {len(failed)} failed, {len(skipped)} left out, since only an edge reads them: {' '.join(skipped)}")
    return 1 if failed else 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["--vectors"] and len(sys.argv) == 3:
        sys.exit(check_vectors(sys.argv[2]))
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    port, key, token, *rest = sys.argv[1:]
    try:
        run(Sealed(int(port), key, token), rest)
    except TimeoutError as late:
        sys.exit(str(late))
