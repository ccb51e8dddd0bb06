# Builds packets as bytes, where each field may be wrong, and parses them.
import ipaddress
import struct

HOPOPT, ICMP, IPIP, TCP, UDP, IPV6, ROUTING, FRAGMENT = 0, 1, 4, 6, 17, 41, 43, 44
GRE, ESP, AH, ICMPV6, NONE, DSTOPT, L2TP, SCTP, MPLS = 47, 50, 51, 58, 59, 60, 115, 132, 137
OUTER_LENGTH = {"ipip": 20, "ip6ip": 20, "ipip6": 40, "ip6ip6": 40}
MODES = tuple(OUTER_LENGTH)


def address(text):
    return ipaddress.ip_address(text).packed


def checksum(data):
    """RFC 1071."""
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff


def ipv4(source, destination, protocol, payload, *, tos=0, ident=0, ttl=64, flags=0, offset=0,
         options=b"", version=4, words=None, length=None, wrong=0):
    """`offset` in bytes; `words` is the IHL; `wrong` is added to the header's checksum."""
    options += bytes(-len(options) % 4)
    size = 20 + len(options)
    words = size // 4 if words is None else words
    length = size + len(payload) if length is None else length
    head = struct.pack(">BBHHHBBH4s4s", version << 4 | words, tos, length & 0xffff, ident,
                       flags << 13 | offset // 8, ttl, protocol, 0, address(source), address(destination))
    # Over what the receiver takes for the header, so that only what is meant to be wrong is.
    covered = (head + options + payload)[:max(words, 5) * 4]
    value = (checksum(covered) + wrong) & 0xffff
    return head[:10] + struct.pack(">H", value) + head[12:] + options + payload


def ipv6(source, destination, header, payload, *, tc=0, flow=0, hops=64, version=6, length=None):
    length = len(payload) if length is None else length
    return struct.pack(">IHBB", version << 28 | tc << 20 | flow, length & 0xffff, header, hops) + \
        address(source) + address(destination) + payload


def with_checksum(source, destination, protocol, segment, at, wrong=0):
    """The segment with its checksum at byte `at`, over the pseudo-header of either family."""
    parts = address(source) + address(destination)
    pseudo = parts + (struct.pack(">HH", protocol, len(segment)) if len(parts) == 8
                      else struct.pack(">II", len(segment), protocol))
    value = ((checksum(pseudo + segment) or 0xffff) + wrong) & 0xffff
    return segment[:at] + struct.pack(">H", value) + segment[at + 2:]


def udp(source, destination, data, ports=(4660, 80), wrong=0):
    segment = struct.pack(">HHHH", *ports, 8 + len(data) & 0xffff, 0) + data
    return with_checksum(source, destination, UDP, segment, 6, wrong)


def tcp(source, destination, data, ports=(4660, 80), flags=0x10, options=b"", wrong=0, sequence=1):
    options += bytes(-len(options) % 4)
    segment = struct.pack(">HHIIBBHHH", *ports, sequence, 2, (20 + len(options)) // 4 << 4, flags, 65535, 0, 0) + \
        options + data
    return with_checksum(source, destination, TCP, segment, 16, wrong)


def echo(source, destination, data):
    if ":" in source:
        return with_checksum(source, destination, ICMPV6, struct.pack(">BBHHH", 128, 0, 0, 1, 1) + data, 2)
    message = struct.pack(">BBHHH", 8, 0, 0, 1, 1) + data
    return message[:2] + struct.pack(">H", checksum(message)) + message[4:]


def options_header(following, options):
    """A hop-by-hop or destination header; `options` fill whole 8-byte units already, after 2 bytes."""
    assert (2 + len(options)) % 8 == 0
    return bytes([following, (2 + len(options)) // 8 - 1]) + options


def pad(length):
    """Padding of so many bytes: Pad1, or PadN."""
    return b"\0" if length == 1 else bytes([1, length - 2]) + bytes(length - 2)


def fragment_header(following, offset, more, ident):
    return struct.pack(">BBHI", following, 0, offset & 0xfff8 | more, ident)


def routing_header(following, left, kind=0, words=2):
    return bytes([following, words, kind, left]) + bytes(4) + bytes(words * 8)


def ethernet(packet, kind=None):
    if kind is None:
        kind = 0x86dd if packet[:1] and packet[0] >> 4 == 6 else 0x0800
    return bytes.fromhex("020000000002" "020000000001") + struct.pack(">H", kind) + packet


class Parts:
    """What a packet says of itself; for one that says nothing sensible all is None."""

    def __init__(self, packet):
        self.version = packet[0] >> 4 if packet else None
        self.source = self.destination = self.protocol = self.ttl = None
        self.length, self.options, self.message = len(packet), b"", 0
        self.chain, self.chain_length, self.is_hop_by_hop = [], 0, False
        self.has_length = True
        if self.version == 4 and len(packet) >= 20:
            self.source = ipaddress.ip_address(packet[12:16])
            self.destination = ipaddress.ip_address(packet[16:20])
            self.protocol, self.ttl = packet[9], packet[8]
            self.options = packet[20:(packet[0] & 15) * 4]
            self.message = (packet[(packet[0] & 15) * 4:] or b"\0")[0]
        elif self.version == 6 and len(packet) >= 40:
            self.source = ipaddress.ip_address(packet[8:24])
            self.destination = ipaddress.ip_address(packet[24:40])
            self.protocol, self.ttl = packet[6], packet[7]
            self.is_hop_by_hop = packet[6] == HOPOPT
            self.has_length = packet[4:6] != b"\0\0"
            self.walk(packet, 40)

    def walk(self, packet, at):
        while self.protocol in (HOPOPT, ROUTING, FRAGMENT, DSTOPT, AH) and len(packet) >= at + 8:
            self.chain.append(self.protocol)
            step = 8 if self.protocol == FRAGMENT else (packet[at + 1] + 1) * 8
            if self.protocol == AH:
                step = (packet[at + 1] + 2) * 4
            later = self.protocol == FRAGMENT and packet[at + 2] << 8 | packet[at + 3] & 0xf8
            self.protocol = packet[at]
            at += step
            self.chain_length += step
            if later:
                break
        self.message = (packet[at:] or b"\0")[0]

    def has_option(self, wanted):
        at = 0
        while at < len(self.options) and self.options[at]:
            if self.options[at] == wanted:
                return True
            at += 1 if self.options[at] == 1 else max((self.options[at + 1:at + 2] or b"\1")[0], 1)
        return False

    def is_in(self, *prefixes, source=True):
        value = self.source if source else self.destination
        return value is not None and any(value in ipaddress.ip_network(prefix) for prefix in prefixes)
