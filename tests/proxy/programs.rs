//! What clients and backends do in the tests of the proxy, in Python: the kernel's own TCP on both sides.

/// So many requests on connections of their own, and so many kept alive, from four threads; every body is compared with the file.
pub(crate) const HTTP_CLIENT: &str = r#"
import http.client, sys, threading
close, keep, path = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
expected, workers = open(sys.argv[4], "rb").read(), 4
alike, errors = [], []
def ask(connection, headers):
    connection.request("GET", path, headers=headers)
    answer = connection.getresponse()
    body = answer.read()
    if answer.status != 200 or body != expected:
        raise Exception(f"{answer.status}, {len(body)} bytes")
    alike.append(1)
def worker():
    kept = http.client.HTTPConnection("10.77.0.9", timeout=30)
    for _ in range(max(close, keep) // workers + 1):
        try:
            if take(0):
                connection = http.client.HTTPConnection("10.77.0.9", timeout=30)
                ask(connection, {"Connection": "close"})
                connection.close()
            if take(1):
                ask(kept, {})
        except Exception as error:
            errors.append(error)
            kept.close()
    kept.close()
lock, left = threading.Lock(), [close, keep]
def take(kind):
    with lock:
        left[kind] -= 1
        return left[kind] >= 0
threads = [threading.Thread(target=worker) for _ in range(workers)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
print(f"{len(alike)} bodies alike, {len(errors)} errors", *errors[:3])
"#;

/// What the programs below share: backends that echo in processes of their own, and connections through the proxy.
pub(crate) const PEERS: &str = r#"
import os, signal, socket, struct, sys, threading, time
def listen(port):
    server = socket.socket()
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    server.bind(("10.77.0.1", port))
    server.listen(1000)
    server.settimeout(20)
    return server
def accept(server):
    peer, _ = server.accept()
    peer.settimeout(20)
    return peer
def connect(port=80):
    s = socket.create_connection(("10.77.0.9", port), timeout=20)
    return s
def exactly(s, count):
    text = b""
    while len(text) < count:
        piece = s.recv(min(65536, count - len(text)))
        if not piece:
            break
        text += piece
    return text
def to_end(s):
    pieces = []
    while True:
        piece = s.recv(65536)
        if not piece:
            return b"".join(pieces)
        pieces.append(piece)
def is_reset(s):
    try:
        return s.recv(1) is None
    except ConnectionResetError:
        return True
def reset(s):
    linger(s, 1)
    s.close()
def linger(s, on):
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", on, 0))
def serve(server, name):
    def one(peer):
        with peer:
            # Killed, it resets; it closes only when the client has.
            linger(peer, 1)
            peer.settimeout(None)
            while True:
                try:
                    text = peer.recv(1000)
                except ConnectionError:
                    return
                if not text:
                    return linger(peer, 0)
                peer.sendall(name + text)
    server.settimeout(None)
    while True:
        peer, _ = server.accept()
        threading.Thread(target=one, args=(peer,), daemon=True).start()
def backend(port, name):
    "A process that answers with its name and what was sent."
    server = listen(port)
    pid = os.fork()
    if pid == 0:
        try:
            serve(server, name)
        finally:
            os._exit(0)
    server.close()
    children.append(pid)
    return pid
def kill(pid):
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    children.remove(pid)
children = []
import atexit
atexit.register(lambda: [os.kill(pid, signal.SIGKILL) for pid in children])
def ask(s, text=b"x"):
    s.sendall(text)
    return exactly(s, 1 + len(text))
def settle(*names):
    "Until the last thirty connections have reached backends of all these names and none was refused: all shards know who is up."
    names, last, deadline = set(names), [], time.time() + 20
    while len(last) < 30 or set(last) != names:
        assert time.time() < deadline, last
        try:
            with connect() as s:
                last = [*last[-29:], ask(s)[:1]]
        except OSError:
            last = []
        time.sleep(0.01)
"#;

/// Ten connections over two backends, of which one dies; then new ones, until it is back.
pub(crate) const BACKEND_DIES: &str = r#"
one, two = backend(8001, b"1"), backend(8002, b"2")
settle(b"1", b"2")
connections = [connect() for _ in range(10)]
names = [ask(s)[:1] for s in connections]
assert sorted(names) == [b"1"] * 5 + [b"2"] * 5, names
kill(one)
resets = [is_reset(s) for s, name in zip(connections, names) if name == b"1"]
others = [ask(s) == b"2x" for s, name in zip(connections, names) if name == b"2"]
print(f"{sum(resets)} reset, {sum(others)} went on")
# Until the checks have seen it, tries go to the other one after a refusal; afterwards at once.
print(f"{sum(ask(connect()) == b'2x' for _ in range(10)) + (time.sleep(0.5) or sum(ask(connect()) == b'2x' for _ in range(10)))} to the other")
backend(8001, b"1")
deadline = time.time() + 10
while {ask(connect()) for _ in range(2)} != {b"1x", b"2x"} and time.time() < deadline:
    time.sleep(0.05)
print("both again" if time.time() < deadline else "only one")
# The process that was made last has these connections too: closing alone would not end them.
[s.shutdown(socket.SHUT_RDWR) for s, name in zip(connections, names) if name == b"2"]
time.sleep(0.2)
"#;

/// An echo behind the proxy, on the given port, and so many connections to it, perhaps once it is known to be up.
pub(crate) const ECHO_BEHIND: &str = r#"
backend(int(sys.argv[1]), b"=")
if sys.argv[3] == "settled":
    settle(b"=")
    # What was before this is in the log before the rest.
    time.sleep(0.5)
count, echoed, errors = int(sys.argv[2]), 0, []
for number in range(count):
    try:
        with connect() as s:
            text = b"%d" % number
            echoed += ask(s, text) == b"=" + text
    except OSError as error:
        errors.append(error)
print(f"{echoed} echoed, {len(errors)} errors", *errors[:3])
"#;

/// A connection to the given port; behind one of them is a backend whose queue is full, so that it ignores SYNs.
pub(crate) const EXPECT_RESET: &str = r#"
full = listen(8009)
full.listen(0)
fillers = [socket.socket() for _ in range(4)]
for filler in fillers:
    filler.setblocking(False)
    filler.connect_ex(("10.77.0.1", 8009))
time.sleep(0.1)
try:
    s = connect(int(sys.argv[1]))
    print("reset" if is_reset(s) else "closed")
except ConnectionResetError:
    print("reset")
"#;

/// One side closes its direction behind its text, and the other answers after that.
pub(crate) const HALF_CLOSE: &str = r#"
server = listen(8001)
request, answer = os.urandom(200000), os.urandom(300000)
def send_all(s, text):
    s.sendall(text)
    s.shutdown(socket.SHUT_WR)
client = connect()
threading.Thread(target=send_all, args=(client, request)).start()
peer = accept(server)
whole = to_end(peer) == request
time.sleep(0.2)
threading.Thread(target=send_all, args=(peer, answer)).start()
print(f"client first: request {'whole' if whole else 'not'}, answer {'whole' if to_end(client) == answer else 'not'}")
client = connect()
peer = accept(server)
threading.Thread(target=send_all, args=(peer, answer)).start()
whole = to_end(client) == answer
time.sleep(0.2)
threading.Thread(target=send_all, args=(client, request)).start()
print(f"backend first: answer {'whole' if whole else 'not'}, request {'whole' if to_end(peer) == request else 'not'}")
"#;

/// Each side resets in turn, after five bytes either way.
pub(crate) const RESETS: &str = r#"
server = listen(8001)
def pair():
    client = connect()
    client.sendall(b"hello")
    peer = accept(server)
    exactly(peer, 5)
    peer.sendall(b"hello")
    exactly(client, 5)
    return client, peer
client, peer = pair()
reset(client)
print("backend heard it" if is_reset(peer) else "not heard")
client, peer = pair()
reset(peer)
print("client heard it" if is_reset(client) else "not heard")
"#;

/// Bytes every 150 ms for longer than the time-out of 400 ms, then a question without an answer; and a client that says nothing.
pub(crate) const IDLE: &str = r#"
server = listen(8001)
client = connect()
peer = accept(server)
for _ in range(6):
    client.sendall(b"x")
    exactly(peer, 1)
    time.sleep(0.15)
print("kept while it spoke")
began = time.time()
reset_after = is_reset(client), time.time() - began
print("reset when it was silent" if reset_after[0] and 0.15 < reset_after[1] < 3 else reset_after)
client = connect()
peer = accept(server)
print("reset without a byte" if is_reset(client) else "closed")
"#;

/// Six connections to idle backends; then those of one end, and it gets the next.
pub(crate) const LEAST_CONNECTIONS: &str = r#"
backend(8001, b"1"), backend(8002, b"2")
connections = [connect() for _ in range(6)]
names = [ask(s)[:1] for s in connections]
print("spread", names.count(b"1"), names.count(b"2"))
for s, name in zip(connections, names):
    if name == b"1":
        s.close()
time.sleep(0.2)
more = []
for _ in range(3):
    more.append(connect())
    assert ask(more[-1])[:1] == b"1"
print("all to the idle one")
"#;

/// Two connections when the proxy drains: one finishes, one does not.
pub(crate) const DRAIN: &str = r#"
server = listen(8001)
finishes, stays = connect(), connect()
peers = [accept(server), accept(server)]
os.kill(int(sys.argv[1]), signal.SIGTERM)
time.sleep(0.3)
try:
    connect()
    print("accepted")
except ConnectionRefusedError:
    print("refused")
finishes.sendall(b"last words")
finishes.shutdown(socket.SHUT_WR)
texts = {}
for peer in peers:
    peer.settimeout(1)
    try:
        texts[peer] = to_end(peer)
    except TimeoutError:
        continue
[peer.close() for peer in texts]
print("finished" if list(texts.values()) == [b"last words"] and to_end(finishes) == b"" else texts)
print("reset" if is_reset(stays) else "closed")
"#;

/// The client does not read until the backend can send no more.
pub(crate) const SLOW_READER: &str = r#"
server = listen(8001)
count = int(sys.argv[1])
client = connect()
peer = accept(server)
sent, block = 0, os.urandom(65536)
peer.settimeout(2)
try:
    while sent < count:
        sent += peer.send(block[sent % 65536:][:count - sent])
    stalled = count
except TimeoutError:
    stalled = sent
def rest():
    global sent
    peer.settimeout(60)
    while sent < count:
        sent += peer.send(block[sent % 65536:][:count - sent])
    peer.shutdown(socket.SHUT_WR)
threading.Thread(target=rest).start()
received, right, twice = 0, True, block + block
while True:
    text = client.recv(65536)
    if not text:
        break
    right &= text == twice[received % 65536:][:len(text)]
    received += len(text)
client.close()
peer.close()
print(f"all there, sender stalled at {stalled}" if right and received == count else f"{received} of {count}")
"#;
