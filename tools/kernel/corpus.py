# The frames, made from a seed: named frames for each rule, then random frames of the same parts, then damage.
import random
import struct

import packets as p
from packets import MODES, ethernet

# The same addresses as in the file `network`.
REMOTE = {4: "192.0.2.1", 6: "2001:db8:1::1"}
OTHER_REMOTE = {4: "192.0.2.3", 6: "2001:db8:1::3"}
STRANGER = {4: "192.0.2.66", 6: "2001:db8:1::66"}
LOCAL = {4: "192.0.2.2", 6: "2001:db8:1::2"}
HOST = {4: "192.0.2.4", 6: "2001:db8:1::4"}
CLIENT = {4: "198.51.100.2", 6: "2001:db8:c::2"}
POD = {4: "10.2.1.9", 6: "2001:db8:2:1::9"}
OTHER_POD = {4: "10.2.1.10", 6: "2001:db8:2:1::10"}
PREFIX_POD = {4: "10.2.2.33", 6: "2001:db8:2:2::33"}
UNLISTED_POD = {4: "10.2.1.77", 6: "2001:db8:2:1::77"}
ELSEWHERE = {4: "203.0.113.9", 6: "2001:db8:e::9"}
NO_WAY_BACK = {4: ["198.51.101.1", "198.51.102.1", "198.51.103.1"],
               6: ["2001:db8:bad:1::1", "2001:db8:bad:2::1", "2001:db8:bad:3::1"]}
SPECIAL = {
    4: ["0.0.0.0", "0.1.2.3", "127.0.0.1", "127.0.0.42", "127.1.2.3", "169.254.1.1", "169.254.169.254",
        "224.0.0.1", "239.1.2.3", "240.0.0.1", "255.255.255.254", "255.255.255.255", "192.0.2.2", "192.0.2.4",
        "192.0.2.0", "192.0.2.255", "10.2.0.1", "10.2.0.255", "192.168.1.1", "100.64.0.1"],
    6: ["::", "::1", "::2", "::192.0.2.9", "::ffff:198.51.100.2", "::ffff:0:0", "fe80::1", "febf::1",
        "fec0::1", "feff::1", "fc00::1", "ff02::1", "ff05::1", "ff0e::1", "2001:db8:1::2", "2001:db8:1::4",
        "2001:db8:2::1", "2001:db8:1::", "2002:c000:201::1", "64:ff9b::1", "100::1", "2001::1", "3ffe::1"],
}
NUMBER = {4: p.IPIP, 6: p.IPV6}


def outer_family(mode):
    return 4 if mode in ("ipip", "ip6ip") else 6


def inner_family(mode):
    return 4 if mode in ("ipip", "ipip6") else 6


class Corpus:
    """`names[i]` is the name of `frames[i]`."""

    def __init__(self, seed, count):
        self.random = random.Random(seed)
        self.names, self.frames, self.used = [], [], set()
        self.datagram = 0
        # How far a random packet is from a plain one; drawn anew for each.
        self.oddity = 1
        for part in (self.plain, self.marks, self.lifetimes, self.lengths, self.versions, self.ipv4_options,
                     self.outer_extensions, self.inner_extensions, self.addresses, self.spoofed, self.nests,
                     self.checksums, self.protocols, self.sizes, self.foreign, self.fragments,
                     self.overlaps, self.inner_fragments):
            part()
        structured = list(self.frames)
        while len(self.frames) < count:
            self.oddity = self.random.choice([0.1, 0.3, 1])
            if self.random.random() < 0.4:
                self.any_damage(structured)
            elif self.random.random() < 0.2:
                self.any_fragments()
            else:
                self.any_packet()

    # Parts of packets.

    def add(self, name, packet, kind=None):
        number = 2
        unique = name
        while unique in self.used:
            unique = f"{name}#{number}"
            number += 1
        self.used.add(unique)
        self.names.append(unique)
        self.frames.append(ethernet(packet, kind))

    def data(self, least=8, most=64):
        return self.random.randbytes(self.random.randint(least, most))

    def ident(self):
        """Of a datagram of its own: none is used twice, so that no leftover meets another's."""
        self.datagram += 1
        assert self.datagram < 0x10000
        return self.datagram

    def inner(self, family, source=None, destination=None, payload=None, protocol=p.UDP, **fields):
        source = source or CLIENT[family]
        destination = destination or POD[family]
        if payload is None:
            payload = p.udp(source, destination, self.data())
        if family == 4:
            fields.setdefault("ident", self.random.randrange(0x10000))
            return p.ipv4(source, destination, protocol, payload, **fields)
        return p.ipv6(source, destination, protocol, payload, **fields)

    def outer(self, mode, inner, source=None, destination=None, header=None, chain=b"", **fields):
        """`chain` stands between an IPv6 header, whose next header is then `header`, and the inner packet."""
        family = outer_family(mode)
        header = NUMBER[inner_family(mode)] if header is None else header
        source, destination = source or REMOTE[family], destination or LOCAL[family]
        if family == 4:
            fields.setdefault("ident", self.random.randrange(0x10000))
            return p.ipv4(source, destination, header, inner, **fields)
        return p.ipv6(source, destination, header, chain + inner, **fields)

    def wrapped(self, mode, inner_fields=None, **outer_fields):
        return self.outer(mode, self.inner(inner_family(mode), **(inner_fields or {})), **outer_fields)

    @staticmethod
    def traffic(family, value):
        return {"tos" if family == 4 else "tc": value}

    @staticmethod
    def lifetime(family, value):
        return {"ttl" if family == 4 else "hops": value}

    # Named frames, one method a rule.

    def plain(self):
        for mode in MODES:
            family = inner_family(mode)
            self.add(f"plain-{mode}", self.wrapped(mode))
            self.add(f"plain-other-remote-{mode}",
                     self.wrapped(mode, source=OTHER_REMOTE[outer_family(mode)]))
            for pod in (OTHER_POD, PREFIX_POD, UNLISTED_POD, ELSEWHERE):
                self.add(f"to-{pod[family]}-{mode}", self.wrapped(mode, {"destination": pod[family]}))
            source, pod = CLIENT[family], POD[family]
            for name, protocol, payload in (
                    ("tcp", p.TCP, p.tcp(source, pod, self.data())),
                    ("syn", p.TCP, p.tcp(source, pod, b"", flags=2, options=b"\2\4\5\xb4\1\1\4\2")),
                    ("echo", p.ICMP if family == 4 else p.ICMPV6, p.echo(source, pod, self.data()))):
                self.add(f"{name}-{mode}", self.wrapped(mode, {"payload": payload, "protocol": protocol}))

    def marks(self):
        for mode in MODES:
            inside, outside = inner_family(mode), outer_family(mode)
            for cell in range(16):
                self.add(f"ecn-{cell >> 2}-{cell & 3}-{mode}",
                         self.wrapped(mode, self.traffic(inside, cell >> 2),
                                      **self.traffic(outside, cell & 3)))
            for inner, outer in ((0xb8, 0x28), (0xfe, 0x03), (0x02, 0xff), (0x29, 0xba), (0x00, 0xfc)):
                self.add(f"dscp-{inner:02x}-{outer:02x}-{mode}",
                         self.wrapped(mode, self.traffic(inside, inner), **self.traffic(outside, outer)))
            if inside == 6:
                self.add(f"flow-{mode}", self.wrapped(mode, {"flow": 0xfffff, "tc": 0x5a}))

    def lifetimes(self):
        for mode in MODES:
            inside, outside = inner_family(mode), outer_family(mode)
            for value in (0, 1, 2, 64, 255):
                self.add(f"inner-ttl-{value}-{mode}", self.wrapped(mode, self.lifetime(inside, value)))
                self.add(f"outer-ttl-{value}-{mode}", self.wrapped(mode, **self.lifetime(outside, value)))

    def lengths(self):
        for mode in MODES:
            whole = self.wrapped(mode)
            outer = p.OUTER_LENGTH[mode]
            inner = 20 if inner_family(mode) == 4 else 40
            for cut in (1, outer - 1, outer, outer + 1, outer + 8, outer + inner - 1, outer + inner,
                        outer + inner + 4, len(whole) - 1):
                self.add(f"cut-{cut}-{mode}", whole[:cut], 0x0800 if outer == 20 else 0x86dd)
            for name, packet in (
                    ("trailer-10", whole + bytes(10)), ("trailer-1", whole + b"\xff"),
                    ("outer-short", self.wrapped(
                        mode, length=outer + inner - 3 if outer == 20 else inner - 3)),
                    ("outer-empty", self.outer(mode, b"")),
                    ("outer-zero", self.wrapped(mode, length=0)),
                    ("outer-long", self.wrapped(mode, length=len(whole) + 500)),
                    ("outer-less-header", self.wrapped(mode, length=19)),
                    ("inner-long", self.wrapped(mode, {"length": 400})),
                    ("inner-short", self.wrapped(mode, {"length": 32})),
                    ("inner-zero", self.wrapped(mode, {"length": 0})),
                    ("inner-less-header", self.wrapped(mode, {"length": 19})),
                    ("inner-header-alone", self.wrapped(mode, {"payload": b""})),
                    ("inner-and-padding", self.outer(mode, self.inner(inner_family(mode)) + bytes(7)))):
                self.add(f"{name}-{mode}", packet)

    def versions(self):
        for mode in MODES:
            for version in (0, 3, 4, 5, 6, 7, 15):
                self.add(f"inner-version-{version}-{mode}", self.wrapped(mode, {"version": version}))
                kind = 0x0800 if outer_family(mode) == 4 else 0x86dd
                self.add(f"outer-version-{version}-{mode}", self.wrapped(mode, version=version), kind)
            if inner_family(mode) == 4:
                for words in (0, 4, 6, 15):
                    self.add(f"inner-ihl-{words}-{mode}", self.wrapped(mode, {"words": words}))
            if outer_family(mode) == 4:
                for words in (0, 4, 6, 15):
                    self.add(f"outer-ihl-{words}-{mode}", self.wrapped(mode, words=words))
            other = 4 if inner_family(mode) == 6 else 6
            self.add(f"other-inner-{mode}", self.outer(mode, self.inner(other)))

    OPTIONS = {
        "nop": b"\1\1\1\1", "end": bytes(4), "end-then-junk": b"\0\x99\x99\x99",
        "rr": b"\7\7\4" + bytes(4) + b"\0",
        "rr-full": b"\7\7\x08\1\2\3\4\0", "rr-bad-pointer": b"\7\7\3" + bytes(5), "rr-short": b"\7\2\1\1",
        "rr-odd": b"\7\6\4" + bytes(3) + b"\0\0",
        "lsrr": b"\x83\7\4\x0a\2\1\x0a\0", "ssrr": b"\x89\7\4\x0a\2\1\x0a\0",
        "lsrr-done": b"\x83\7\x08\x0a\2\1\x0a\0",
        "ra": b"\x94\4\0\0", "ra-value": b"\x94\4\0\1", "ra-short": b"\x94\3\0\0",
        "cipso": b"\x86\6\0\0\0\1\0\0", "sec": b"\x82\x0b" + bytes(9) + b"\0", "stream": b"\x88\4\0\1",
        "unknown": b"\x1e\4\0\0", "unknown-copied": b"\x9e\4\0\0", "length-0": b"\x1e\0\0\0",
        "length-1": b"\x1e\1\0\0",
        "past-end": b"\x1e\x0c\0\0", "no-length": b"\1\1\1\x1e", "ts-bad": b"\x44\4\5\0",
        "ts-pointer": b"\x44\x08\1\0" + bytes(4),
        "ts-overflow": b"\x44\4\5\xf0", "two-rr": b"\7\7\4" + bytes(4) + b"\7\7\4" + bytes(4) + b"\0\0",
        "most": b"\1" * 40,
    }

    def ipv4_options(self):
        for name, options in self.OPTIONS.items():
            for mode in MODES:
                if outer_family(mode) == 4:
                    self.add(f"outer-option-{name}-{mode}", self.wrapped(mode, options=options))
                if inner_family(mode) == 4:
                    self.add(f"inner-option-{name}-{mode}", self.wrapped(mode, {"options": options}))

    @staticmethod
    def option_sets():
        """Contents of an options header, 6 bytes and then 8 more each."""
        return {
            "padn": p.pad(6), "pad1": bytes(6), "pad1-many": bytes(14), "padn-8": p.pad(7) + p.pad(7),
            "padn-not-zero": b"\1\4\0\0\0\1", "limit": b"\4\1\4" + p.pad(3), "limit-0": b"\4\1\0" + p.pad(3),
            "limit-bad-length": b"\4\2\4\4" + p.pad(2), "limit-twice": b"\4\1\4\4\1\4",
            "skip": b"\x1e\4\1\2\3\4", "discard": b"\x5e\4\1\2\3\4", "discard-icmp": b"\x9e\4\1\2\3\4",
            "discard-icmp-not-multicast": b"\xde\4\1\2\3\4", "past-end": b"\x1e\x20\0\0\0\0",
            "no-length": p.pad(5) + b"\x1e",
            "router-alert": b"\5\2\0\0" + p.pad(2), "router-alert-bad": b"\5\4\0\0\0\0",
            "jumbo": b"\xc2\4\0\1\0\0",
            "jumbo-small": b"\xc2\4\0\0\0\x40", "home-address": p.pad(4) + b"\xc9\x10" + bytes(16),
            "calipso": b"\7\x08" + bytes(8) + p.pad(4), "ioam": b"\x31\4\0\0\0\0",
            "options-8": b"\x1e\0" * 7, "options-9": b"\x1e\0" * 11,
        }

    def outer_extensions(self):
        for mode in ("ipip6", "ip6ip6"):
            last = NUMBER[inner_family(mode)]
            for name, options in self.option_sets().items():
                for header, kind in ((p.HOPOPT, "hbh"), (p.DSTOPT, "dst")):
                    self.add(f"outer-{kind}-{name}-{mode}",
                             self.wrapped(mode, header=header, chain=p.options_header(last, options)))
            for kind in (0, 2, 3, 4, 43):
                for left in (0, 1, 2, 255):
                    self.add(f"outer-routing-{kind}-left-{left}-{mode}",
                             self.wrapped(mode, header=p.ROUTING, chain=p.routing_header(last, left, kind)))
            self.add(f"outer-routing-odd-{mode}",
                     self.wrapped(mode, header=p.ROUTING, chain=p.routing_header(last, 0, 0, 1)))
            for number in (0, 1, 77):
                self.add(f"outer-atomic-{mode}",
                         self.wrapped(mode, header=p.FRAGMENT, chain=p.fragment_header(last, 0, 0, number)))
            self.add(f"outer-atomic-reserved-{mode}",
                     self.wrapped(mode, header=p.FRAGMENT, chain=bytes([last, 9, 0, 6]) + bytes(4)))
            for name, chain in self.chains(last).items():
                self.add(f"outer-chain-{name}-{mode}", self.wrapped(mode, header=chain[0], chain=chain[1]))
            self.add(f"outer-none-{mode}", self.wrapped(mode, header=p.NONE))

    @staticmethod
    def link(headers, last):
        """The first header's number, and the chain; of (number, rest of the header from its second byte)."""
        following = [number for number, _ in headers[1:]] + [last]
        return headers[0][0], b"".join(bytes([after]) + rest for after, (_, rest) in zip(following, headers))

    def chains(self, last):
        hop = (p.HOPOPT, b"\0" + p.pad(6))
        destination = (p.DSTOPT, b"\0" + p.pad(6))
        limit = (p.DSTOPT, b"\0\4\1\4" + p.pad(3))
        routing = (p.ROUTING, p.routing_header(0, 0)[1:])
        atomic = (p.FRAGMENT, p.fragment_header(0, 0, 0, 5)[1:])
        long = (p.DSTOPT, b"\x0c\x1e\x64" + bytes(100))
        return {name: self.link(headers, last) for name, headers in {
            "hbh-dst": [hop, destination], "hbh-dst-routing-dst": [hop, destination, routing, destination],
            "dst-hbh": [destination, hop], "hbh-hbh": [hop, hop], "dst-atomic": [destination, atomic],
            "atomic-dst": [atomic, destination], "atomic-atomic": [atomic, atomic],
            "hbh-routing-atomic-limit": [hop, routing, atomic, limit],
            "8": [destination] * 8, "9": [destination] * 9, "24": [destination] * 24,
            "long": [long] * 2, "longer": [long] * 3, "long-8": [long] * 8,
            "ah": [(p.AH, b"\1\0\0" + bytes(8))],
        }.items()}

    def inner_extensions(self):
        for mode in ("ip6ip", "ip6ip6"):
            body = p.udp(CLIENT[6], POD[6], self.data())
            for name, options in self.option_sets().items():
                for header, kind in ((p.HOPOPT, "hbh"), (p.DSTOPT, "dst")):
                    self.add(f"inner-{kind}-{name}-{mode}", self.wrapped(
                        mode, {"protocol": header, "payload": p.options_header(p.UDP, options) + body}))
            for left in (0, 1):
                self.add(f"inner-routing-left-{left}-{mode}", self.wrapped(
                    mode, {"protocol": p.ROUTING, "payload": p.routing_header(p.UDP, left) + body}))
            self.add(f"inner-atomic-{mode}", self.wrapped(
                mode, {"protocol": p.FRAGMENT, "payload": p.fragment_header(p.UDP, 0, 0, 7) + body}))
            for name, chain in self.chains(p.UDP).items():
                self.add(f"inner-chain-{name}-{mode}",
                         self.wrapped(mode, {"protocol": chain[0], "payload": chain[1] + body}))
            self.add(f"inner-chain-cut-{mode}", self.wrapped(
                mode, {"protocol": p.DSTOPT, "payload": b"\x11\5" + bytes(14)}))
            # A first fragment that leaves the rest of its header chain to the second.
            header = b"\x29\1" + p.pad(14)
            for name, following, part in (
                    ("nest", p.DSTOPT, header[:8]), ("udp", p.UDP, body[:4]),
                    ("tcp", p.TCP, p.tcp(CLIENT[6], POD[6], b"")[:16])):
                self.add(f"inner-first-fragment-{name}-{mode}", self.wrapped(
                    mode, {"protocol": p.FRAGMENT,
                           "payload": p.fragment_header(following, 0, 1, self.ident() | 0x10000) + part}))
            hidden = self.link([(p.DSTOPT, b"\0" + p.pad(6))], p.IPV6)
            self.add(f"inner-hidden-nest-{mode}", self.wrapped(
                mode, {"protocol": hidden[0], "payload": hidden[1] + self.inner(6)}))
            jumbo = p.options_header(p.UDP, b"\xc2\4\0\0\0\x40") + body
            self.add(f"inner-jumbogram-{mode}",
                     self.wrapped(mode, {"protocol": p.HOPOPT, "payload": jumbo, "length": 0}))
            unsaid = p.options_header(p.UDP, p.pad(6)) + body
            self.add(f"inner-length-zero-{mode}",
                     self.wrapped(mode, {"protocol": p.HOPOPT, "payload": unsaid, "length": 0}))

    def addresses(self):
        for mode in MODES:
            family = inner_family(mode)
            for value in SPECIAL[family] + NO_WAY_BACK[family]:
                self.add(f"source-{value}-{mode}", self.wrapped(mode, {"source": value}))
            for value in SPECIAL[family]:
                self.add(f"destination-{value}-{mode}", self.wrapped(mode, {"destination": value}))
            for pod in (POD, OTHER_POD, PREFIX_POD, UNLISTED_POD):
                self.add(f"source-{pod[family]}-{mode}", self.wrapped(mode, {"source": pod[family]}))
            for remote in (REMOTE, OTHER_REMOTE):
                self.add(f"source-{remote[family]}-{mode}", self.wrapped(mode, {"source": remote[family]}))
            self.add(f"source-itself-{mode}", self.wrapped(
                mode, {"source": ELSEWHERE[family], "destination": ELSEWHERE[family]}))
            # 6to4 and NAT64, of a client, a pod, an unlisted pod, the host and nobody.
            for held in ("c633:6402", "a02:109", "a02:14d", "c000:204", "7f00:1") if family == 6 else ():
                for value in (f"2002:{held}::1", f"64:ff9b::{held}"):
                    self.add(f"source-{value}-{mode}", self.wrapped(mode, {"source": value}))

    def spoofed(self):
        for mode in MODES:
            family = outer_family(mode)
            for name, source in (("stranger", STRANGER[family]), ("client", CLIENT[family]),
                                 ("self", LOCAL[family]), ("host", HOST[family]), ("pod", POD[family])):
                self.add(f"remote-{name}-{mode}", self.wrapped(mode, source=source))
            for value in SPECIAL[family]:
                self.add(f"remote-{value}-{mode}", self.wrapped(mode, source=value))
            self.add(f"local-host-{mode}", self.wrapped(mode, destination=HOST[family]))
            self.add(f"local-pod-{mode}", self.wrapped(mode, destination=POD[family]))
            self.add(f"local-elsewhere-{mode}", self.wrapped(mode, destination=ELSEWHERE[family]))

    def nests(self):
        for mode in MODES:
            family = inner_family(mode)
            for last in (4, 6):
                inside = self.inner(last)
                for name, source, destination in (
                        ("to-pod", CLIENT[family], POD[family]), ("to-local", REMOTE[family], LOCAL[family]),
                        ("to-local-from-client", CLIENT[family], LOCAL[family]),
                        ("to-elsewhere", CLIENT[family], ELSEWHERE[family])):
                    self.add(f"nest-{last}-{name}-{mode}", self.wrapped(mode, {
                        "source": source, "destination": destination, "protocol": NUMBER[last],
                        "payload": inside}))
            inside = self.inner(family)
            for depth in range(1, 6):
                inside = self.inner(family, source=REMOTE[family], destination=LOCAL[family],
                                    protocol=NUMBER[family], payload=inside)
                self.add(f"nest-depth-{depth}-{mode}", self.outer(mode, inside))
            gre = struct.pack(">HH", 0, 0x0800) + self.inner(4)
            self.add(f"nest-gre-{mode}", self.wrapped(mode, {"protocol": p.GRE, "payload": gre}))
            self.add(f"nest-mpls-{mode}", self.wrapped(
                mode, {"protocol": p.MPLS, "payload": b"\0\1\1\x40" + self.inner(4)}))

    def checksums(self):
        for mode in MODES:
            family = inner_family(mode)
            source, pod = CLIENT[family], POD[family]
            for wrong in (1, 0x8000, 0xffff):
                if outer_family(mode) == 4:
                    self.add(f"outer-checksum-{wrong:x}-{mode}", self.wrapped(mode, wrong=wrong))
                if family == 4:
                    self.add(f"inner-checksum-{wrong:x}-{mode}", self.wrapped(mode, {"wrong": wrong}))
            self.add(f"udp-checksum-{mode}",
                     self.wrapped(mode, {"payload": p.udp(source, pod, self.data(), wrong=7)}))
            none = p.udp(source, pod, self.data())
            self.add(f"udp-no-checksum-{mode}",
                     self.wrapped(mode, {"payload": none[:6] + b"\0\0" + none[8:]}))
            self.add(f"tcp-checksum-{mode}", self.wrapped(
                mode, {"protocol": p.TCP, "payload": p.tcp(source, pod, self.data(), wrong=7)}))

    def protocols(self):
        for mode in MODES:
            for number in (0, 2, 6, 17, 33, 43, 44, 46, 50, 51, 58, 59, 60, 89, 94, 97, 103, 108, 112, 115,
                           132,                            135, 136, 137, 139, 140, 253, 255):
                self.add(f"inner-protocol-{number}-{mode}",
                         self.wrapped(mode, {"protocol": number, "payload": bytes(8) + self.data(32)}))
            for number in (0, 1, 2, 6, 17, 43, 44, 47, 50, 51, 55, 58, 59, 60, 94, 98, 115, 132, 137):
                self.add(f"outer-protocol-{number}-{mode}", self.wrapped(mode, header=number))
            self.add(f"outer-other-protocol-{mode}",
                     self.wrapped(mode, header=p.IPIP + p.IPV6 - NUMBER[inner_family(mode)]))

    def sizes(self):
        """Around the pod's MTU of 1500 bytes, with and without permission to fragment."""
        for mode in MODES:
            family = inner_family(mode)
            for size in (1280, 1460, 1499, 1500, 1501, 1520, 2000, 4000, 8800):
                for flags in (0, 2) if family == 4 else (0,):
                    data = self.random.randbytes(size - (28 if family == 4 else 48))
                    fields = {"payload": p.udp(CLIENT[family], POD[family], data)}
                    if flags:
                        fields["flags"] = flags
                    self.add(f"size-{size}-{'df-' if flags else ''}{mode}", self.wrapped(mode, fields))

    def foreign(self):
        """Frames that are nobody's tunnel."""
        for family in (4, 6):
            self.add(f"native-to-host-{family}", self.inner(family, destination=HOST[family]))
            self.add(f"native-to-local-{family}", self.inner(family, destination=LOCAL[family]))
        self.add("arp", bytes.fromhex("0001080006040001020000000001c0000201000000000000c0000202"), 0x0806)
        self.add("vlan", b"\0\5\x08\0" + self.wrapped("ipip"), 0x8100)
        self.add("other-ethertype", self.wrapped("ipip"), 0x88b5)
        self.add("ipv6-as-ipv4", self.wrapped("ipip6"), 0x0800)
        self.add("ipv4-as-ipv6", self.wrapped("ip6ip"), 0x86dd)
        self.add("empty", b"", 0x0800)

    # Outer fragments.

    def pieces(self, mode, cuts, source=None, ident=None, tos=None, chain=None, payload=None, **fields):
        """The fragments of one datagram, cut at these offsets. `chain`: header and bytes in front of the
        inner packet, in the fragmentable part; `tos`: one a fragment."""
        family = outer_family(mode)
        ident = self.ident() if ident is None else ident
        header = NUMBER[inner_family(mode)]
        if payload is None:
            payload = self.inner(inner_family(mode), payload=p.udp(
                CLIENT[inner_family(mode)], POD[inner_family(mode)],
                self.random.randbytes(max(cuts) + self.random.randint(9, 64))))
        if chain:
            header, payload = chain[0], chain[1] + payload
        borders = [0] + list(cuts) + [len(payload)]
        result = []
        for index, (start, stop) in enumerate(zip(borders, borders[1:])):
            marks = self.traffic(family, tos[index] if tos else 0)
            result.append(self.piece(mode, header, payload[start:stop], start, stop < len(payload), ident,
                                     source, **marks, **fields))
        return result

    def piece(self, mode, header, part, offset, more, ident, source=None, **fields):
        family = outer_family(mode)
        source = source or REMOTE[family]
        if family == 4:
            return p.ipv4(source, LOCAL[4], header, part, ident=ident, flags=int(more), offset=offset,
                          **fields)
        return p.ipv6(source, LOCAL[6], p.FRAGMENT,
                      p.fragment_header(header, offset, int(more), ident) + part, **fields)

    def add_all(self, name, parts):
        for index, part in enumerate(parts):
            self.add(f"{name}-{index}", part)

    def fragments(self):
        orders = {"in-order": [0, 1, 2], "reversed": [2, 1, 0], "first-late": [1, 2, 0],
                  "middle-last": [0, 2, 1], "last-first": [2, 0, 1], "middle-first": [1, 0, 2]}
        for mode in MODES:
            for name, order in orders.items():
                parts = self.pieces(mode, [64, 400])
                self.add_all(f"fragments-{name}-{mode}", [parts[index] for index in order])
            for cuts in ([8], [16], [24], [40], [48], [8, 16, 24, 32]):
                self.add_all(f"fragments-tiny-{'-'.join(map(str, cuts))}-{mode}", self.pieces(mode, cuts))
            self.add_all(f"fragments-large-{mode}", self.pieces(mode, [1480, 2960, 4440, 5920]))
            self.add_all(f"fragments-pod-mtu-{mode}", self.pieces(mode, [1400]))
            whole = self.inner(inner_family(mode), payload=p.udp(
                CLIENT[inner_family(mode)], POD[inner_family(mode)], self.random.randbytes(30000)))
            self.add_all(f"fragments-very-large-{mode}",
                         self.pieces(mode, range(1480, 30000, 1480), payload=whole))
            most = 65535 - (20 if outer_family(mode) == 4 else 8)
            for size in (most // 8 * 8, most // 8 * 8 + 8):
                self.add_all(f"fragments-{size}-{mode}", self.pieces(
                    mode, range(8800, size, 8800), payload=self.inner(
                        inner_family(mode), payload=bytes(size - (20 if inner_family(mode) == 4 else 40)))))
            for count in (64, 65):
                self.add_all(f"fragments-count-{count}-{mode}", self.pieces(mode, range(8, 8 * count, 8)))
            parts = self.pieces(mode, [64, 400])
            self.add_all(f"fragments-duplicate-{mode}", [parts[0], parts[0], parts[1], parts[1], parts[2]])
            parts = self.pieces(mode, [64, 400])
            self.add_all(f"fragments-duplicate-last-{mode}", [parts[2], parts[2], parts[0], parts[1]])
            parts = self.pieces(mode, [64, 400])
            self.add_all(f"fragments-missing-{mode}", [parts[0], parts[2]])
            one, two = self.pieces(mode, [64, 400]), self.pieces(mode, [128, 200])
            self.add_all(f"fragments-interleaved-{mode}", [x for pair in zip(one, two) for x in pair])
            ident, family = self.ident(), outer_family(mode)
            one = self.pieces(mode, [64, 400], ident=ident)
            two = self.pieces(mode, [64, 400], ident=ident, source=OTHER_REMOTE[family])
            self.add_all(f"fragments-two-remotes-{mode}", [x for pair in zip(one, two) for x in pair])
            self.add_all(f"fragments-stranger-{mode}", self.pieces(mode, [64], source=STRANGER[family]))
            for tos in ((0, 0, 0), (2, 2, 2), (2, 3, 2), (1, 3, 1), (3, 2, 1), (0, 2, 2), (2, 0, 2),
                        (0, 3, 0), (3, 3, 3), (2, 1, 2), (1, 2, 2), (0xb8, 0x28, 0)):
                parts = self.pieces(mode, [64, 400], tos=tos)
                self.add_all(f"fragments-marks-{'-'.join(map(str, tos))}-{mode}", parts)
            if family == 4:
                self.add_all(f"fragments-options-{mode}", self.pieces(mode, [64], options=b"\1\1\1\1"))
                self.add_all(f"fragments-reserved-bit-{mode}", [
                    self.wrapped(mode, flags=4), self.wrapped(mode, flags=6)])
                self.add_all(f"fragments-df-{mode}", [
                    part for part in self.pieces_with_df(mode)])
            else:
                self.add_all(f"fragments-chain-{mode}", self.pieces(
                    mode, [64, 400], chain=(p.DSTOPT, p.options_header(NUMBER[inner_family(mode)],
                                                                       b"\4\1\4" + p.pad(3)))))
                self.add_all(f"fragments-chain-cut-{mode}", self.pieces(
                    mode, [8], chain=(p.DSTOPT, p.options_header(p.DSTOPT, p.pad(6))
                                      + p.options_header(NUMBER[inner_family(mode)], p.pad(6)))))

    def pieces_with_df(self, mode):
        parts = self.pieces(mode, [64])
        return [p.ipv4(REMOTE[4], LOCAL[4], part[9], part[20:], ident=part[4] << 8 | part[5],
                       flags=2 | int(index == 0), offset=64 * index) for index, part in enumerate(parts)]

    def overlaps(self):
        for mode in MODES:
            header = NUMBER[inner_family(mode)]
            family = inner_family(mode)
            whole = self.inner(family, payload=p.udp(CLIENT[family], POD[family], self.random.randbytes(600)))
            size = len(whole)

            def piece(start, stop, ident, more=None, data=None):
                return self.piece(mode, header, whole[start:stop] if data is None else data, start,
                                  stop < size if more is None else more, ident)

            for name, cuts in {
                    "tail": [(0, 104), (96, 400), (400, size)], "head": [(96, 400), (0, 104), (400, size)],
                    "contained": [(0, 400), (80, 160), (400, size)],
                    "contained-run": [(0, 80), (80, 400), (40, 160), (400, size)],
                    "around": [(80, 160), (0, 400), (400, size)],
                    "same-start": [(0, 400), (0, 200), (400, size)],
                    "same-end": [(0, 400), (200, 400), (400, size)],
                    "two-as-one": [(0, 80), (80, 160), (0, 160), (160, size)],
                    "last": [(0, 400), (320, size), (400, size)],
                    "then-again": [(0, 104), (96, 400), (0, 104), (104, 400), (400, size)],
            }.items():
                ident = self.ident()
                self.add_all(f"overlap-{name}-{mode}", [piece(start, stop, ident) for start, stop in cuts])
            ident = self.ident()
            self.add_all(f"overlap-other-data-{mode}", [
                piece(0, 400, ident), piece(0, 400, ident, data=bytes(400)), piece(400, size, ident)])
            ident = self.ident()
            self.add_all(f"overlap-two-ends-{mode}", [
                piece(400, 480, ident, more=False), piece(400, size, ident), piece(0, 400, ident)])
            ident = self.ident()
            self.add_all(f"overlap-behind-end-{mode}", [
                piece(80, 160, ident, more=False), piece(160, 400, ident, more=True), piece(0, 80, ident)])
            ident = self.ident()
            self.add_all(f"fragment-empty-{mode}", [
                piece(0, 400, ident), piece(400, 400, ident, more=False, data=b""), piece(400, size, ident)])
            # Of IPv4 the kernel cuts the odd bytes off and is content: no third fragment is needed.
            ident = self.ident()
            self.add_all(f"fragment-odd-{mode}", [
                piece(0, 84, ident, more=True), piece(80, size, ident), piece(0, 80, ident)
            ][:2 if outer_family(mode) == 4 else 3])
            ident = self.ident()
            self.add_all(f"fragment-beyond-{mode}", [
                self.piece(mode, header, bytes(64), 65528, True, ident),
                self.piece(mode, header, bytes(7), 65528, False, ident)])

    def inner_fragments(self):
        for mode in MODES:
            family = inner_family(mode)
            data = p.udp(CLIENT[family], POD[family], self.random.randbytes(200))
            for index, (start, stop) in enumerate(((0, 64), (64, 128), (128, len(data)), (0, 8))):
                more = stop < len(data)
                if family == 4:
                    fields = {"payload": data[start:stop], "flags": int(more), "offset": start}
                else:
                    fields = {"protocol": p.FRAGMENT,
                              "payload": p.fragment_header(p.UDP, start, int(more), 9) + data[start:stop]}
                self.add(f"inner-fragment-{index}-{mode}", self.wrapped(mode, fields))

    # Random ones.

    def pick(self, usual, *others):
        return self.random.choice(others) if self.chance(0.2) else usual

    def chance(self, share):
        return self.random.random() < share * self.oddity

    def any_inner(self, family, depth=0):
        special = SPECIAL[family] + NO_WAY_BACK[family] + [ELSEWHERE[family], UNLISTED_POD[family]]
        fields = {"source": self.pick(CLIENT[family], *special),
                  "destination": self.pick(self.random.choice([POD, OTHER_POD, PREFIX_POD])[family],
                                           *special),
                  **self.traffic(family, self.random.randrange(256)),
                  **self.lifetime(family, self.pick(64, 0, 1, 2, 255))}
        if self.chance(0.1):
            fields["length"] = self.random.randrange(200)
        if self.chance(0.05):
            fields["version"] = self.random.randrange(16)
        if family == 4:
            fields["flags"] = self.pick(0, *range(8))
            fields["offset"] = self.pick(0, 8, 16, 65528)
            fields["wrong"] = self.pick(0, 1, 0xffff)
            fields["options"] = self.pick(b"", *self.OPTIONS.values(), self.random.randbytes(8))
        if depth < 2 and self.chance(0.05):
            fields["protocol"], inside = NUMBER[4 if self.random.random() < 0.5 else 6], None
            inside = 4 if fields["protocol"] == p.IPIP else 6
            fields["payload"] = self.any_inner(inside, depth + 1)
        elif self.random.random() < 0.2:
            fields["protocol"], fields["payload"] = self.random.randrange(256), self.data(0, 80)
        elif family == 6 and self.random.random() < 0.2:
            fields["protocol"], chain = self.any_chain(p.UDP)
            fields["payload"] = chain + p.udp(CLIENT[6], POD[6], self.data())
        return self.inner(family, **fields)

    def any_chain(self, last):
        headers = []
        for _ in range(self.random.randint(1, 4)):
            headers.append(self.random.choice([
                (self.random.choice([p.HOPOPT, p.DSTOPT]),
                 p.options_header(0, self.random.choice(list(self.option_sets().values())))[1:]),
                (p.DSTOPT, b"\0" + self.random.randbytes(6)), (p.DSTOPT, b"\0" + p.pad(6)),
                (p.ROUTING, p.routing_header(0, self.pick(0, 1))[1:]),
                (p.FRAGMENT, p.fragment_header(0, 0, 0, self.ident() | 0x10000)[1:])]))
        return self.link(headers, last)

    def any_outer(self, mode, inner):
        family = outer_family(mode)
        fields = {"source": self.pick(REMOTE[family], OTHER_REMOTE[family], STRANGER[family], LOCAL[family],
                                      *SPECIAL[family]),
                  "destination": self.pick(LOCAL[family], HOST[family], POD[family]),
                  **self.traffic(family, self.random.randrange(256)),
                  **self.lifetime(family, self.random.randrange(256))}
        if self.chance(0.1):
            fields["length"] = self.random.randrange(300)
        if family == 4:
            fields["flags"] = self.pick(0, 2, 4, 6)
            fields["wrong"] = self.pick(0, 0, 0, 1)
            fields["options"] = self.pick(b"", *self.OPTIONS.values(), self.random.randbytes(8))
        elif self.random.random() < 0.3:
            fields["header"], fields["chain"] = self.any_chain(NUMBER[inner_family(mode)])
        return self.outer(mode, inner, **fields)

    def any_packet(self):
        mode = self.random.choice(MODES)
        packet = self.any_outer(mode, self.any_inner(inner_family(mode)))
        self.add(f"random-{mode}", packet + self.pick(b"", bytes(6)),
                 0x0800 if outer_family(mode) == 4 else 0x86dd)

    def any_fragments(self):
        """Up to three datagrams, cut anywhere, shuffled together; some pieces twice, some left out."""
        parts = []
        for _ in range(self.random.randint(1, 3)):
            mode = self.random.choice(MODES)
            payload = self.any_inner(inner_family(mode))
            payload += self.random.randbytes(self.pick(0, 100, 3000))
            places = range(8, max(len(payload), 17), 8)
            cuts = sorted(self.random.sample(places, min(len(places), self.random.randint(1, 6))))
            tos = None
            if self.random.random() < 0.5:
                tos = [self.pick(2, 0, 1, 3) for _ in range(len(cuts) + 1)]
            cuts = [cut for cut in cuts if cut < len(payload)]
            if cuts:
                parts += self.pieces(mode, cuts, payload=payload, tos=tos)
        parts += [part for part in parts if self.chance(0.1)]
        parts = [part for part in parts if not self.chance(0.02)]
        if self.random.random() < 0.7:
            self.random.shuffle(parts)
        self.add_all("random-fragments", parts)

    def any_damage(self, frames):
        """A frame of the named ones with some bytes changed, cut off or repeated. Fragments are left alone:
        their datagrams would meet the whole ones."""
        index = self.random.randrange(len(frames))
        if self.names[index].startswith(("fragment", "overlap")):
            return
        packet = bytearray(frames[index][14:])
        kind = int.from_bytes(frames[index][12:14], "big")
        if not packet:
            return
        action = self.random.randrange(4)
        if action == 0:
            packet = packet[:self.random.randrange(len(packet)) + 1]
        else:
            for _ in range(self.random.randint(1, 3)):
                at = self.random.randrange(min(len(packet), 120))
                packet[at] = self.random.choice([packet[at] ^ 1 << self.random.randrange(8),
                                                 self.random.randrange(256)])
            if action == 1 and kind == 0x0800 and len(packet) >= 20:
                header = packet[:max(packet[0] & 15, 5) * 4]
                mended = p.checksum(bytes(header[:10]) + b"\0\0" + bytes(header[12:]))
                packet[10:12] = struct.pack(">H", mended)
        if self.becomes_fragment(packet, kind):
            return
        self.add(f"damaged-{self.names[index]}", bytes(packet), kind)

    @staticmethod
    def becomes_fragment(packet, kind):
        """Whether damage made an outer fragment, which could meet another one's datagram."""
        if kind == 0x0800:
            return len(packet) >= 8 and (packet[6] << 8 | packet[7]) & 0x3fff != 0
        at, number = 40, packet[6] if len(packet) > 6 else p.NONE
        while number in (p.HOPOPT, p.ROUTING, p.FRAGMENT, p.DSTOPT) and len(packet) >= at + 8:
            if number == p.FRAGMENT and (packet[at + 2] << 8 | packet[at + 3]) & 0xfff9:
                return True
            number, at = packet[at], at + (8 if number == p.FRAGMENT else (packet[at + 1] + 1) * 8)
        return False
