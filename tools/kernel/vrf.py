# Compares `shuck status --why` with the kernel's treatment of a packet, for interfaces in VRFs.
import ipaddress
import itertools
import json
import time
from collections import Counter

import packets
from corpus import LOCAL
from nodes import PODS, WIRE, demand

MODULES = ["crc32c_generic", "vrf", "dummy", "nft_fib_ipv4", "nft_fib_ipv6", "nft_fib_inet"]
FIRST_PORT = 20000
SOURCES = {4: "10.64.{}.7/24", 6: "2001:db8:64:{:x}::7/64"}
# The machine's own addresses.
OWN = {
    "eth0": {4: LOCAL[4] + "/24", 6: LOCAL[6] + "/64"},
    "blue0": {4: "10.65.1.1/24", 6: "2001:db8:65:1::1/64"},
    "pods0": {4: "10.65.2.1/24", 6: "2001:db8:65:2::1/64"},
    "side0": {4: "10.65.3.1/24", 6: "2001:db8:65:3::1/64"},
}
# Each source has one of these in red's table and one in the other table. `@`: metric, `+`: one multipath route.
RED = ["", "eth0", "blue0", "pods0", "green0", "eth0+blue0", "blue0+side0", "blue0@10 eth0@20",
       "blackhole", "unreachable", "prohibit", "throw"]
OTHER = ["", "pods0", "eth0", "side0@10 pods0@20", "blackhole"]
CASES = [*itertools.product(RED[:2], OTHER), *itertools.product(RED[2:], OTHER[:2])]

# Made while shuck runs: that eth0 comes into a VRF is a change that it follows. The kernel adds the rules.
DEVICES = """
for name in blue0 side0 green0; do /bin/ip link add $name type dummy; done
/bin/ip link add red type vrf table 100
/bin/ip link add green type vrf table 200
/bin/ip link set eth0 master red
/bin/ip link set blue0 master red
/bin/ip link set green0 master green
for name in blue0 side0 green0 red green; do /bin/ip link set $name up; done
# The larger of both is what counts.
for name in all eth0 pods0; do echo 1 >/proc/sys/net/ipv4/conf/$name/rp_filter; done
nft -f - <<'END'
table inet oracle {
    set seen { type inet_service; flags dynamic; }
    set arrived { type inet_service; flags dynamic; }
    set refused { type inet_service; flags dynamic; }
    chain ask {
        type filter hook prerouting priority -300;
        iifname { eth0, pods0 } udp dport 20000-40000 add @seen { udp dport }
        meta nfproto ipv6 iifname { eth0, pods0 } udp dport 20000-40000 fib saddr . iif oif missing \
            add @refused { udp dport }
    }
    chain local {
        type filter hook input priority 0;
        udp dport 20000-40000 add @arrived { udp dport } drop
    }
    chain onward {
        type filter hook forward priority 0;
        udp dport 20000-40000 add @arrived { udp dport } drop
    }
}
END
"""

# Local addresses behind the VRFs, as the kernel's Documentation/networking/vrf.rst has it. What is in no VRF looks in
# main before that.
MOVED = """
for family in -4 -6; do
    /bin/ip $family rule add pref 32765 lookup local
    /bin/ip $family rule del pref 0
    /bin/ip $family rule add pref 900 not l3mdev suppress_prefixlength 0
    /bin/ip $family route add table 100 unreachable default metric 4278198272
    /bin/ip $family route add default dev side0
done
"""

# Now pods0 is in the other VRF, and default routes of VRFs do not count.
BOTH = """
/bin/ip link set pods0 master green
for family in -4 -6; do
    /bin/ip $family rule del pref 1000
    /bin/ip $family rule add pref 1000 l3mdev suppress_prefixlength 0
done
"""


def route(family, prefix, table, what):
    """Lines for `ip -batch`."""
    lines = []
    for choice in what.split():
        target, _, metric = choice.partition("@")
        hops = target.split("+")
        if len(hops) > 1:
            via = "via 10.66.0.9 dev {} onlink" if family == 4 else "via fe80::9 dev {}"
            words = f"{prefix} table {table} " + " ".join("nexthop " + via.format(hop) for hop in hops)
        elif target.endswith("0"):
            words = f"{prefix} table {table} dev {target}"
        else:
            words = f"{target} {prefix} table {table}"
        lines.append(f"route replace {words}" if not metric else f"route replace {words} metric {metric}")
    return lines


def lay(node, other):
    """Addresses and routes; those that went with a link that was enslaved come back."""
    for family in (4, 6):
        lines = [f"address replace {addresses[family]} dev {name}" + (" nodad" if family == 6 else "")
                 for name, addresses in OWN.items()]
        for number, (red, beside) in enumerate(CASES):
            prefix = str(ipaddress.ip_interface(SOURCES[family].format(number)).network)
            lines += route(family, prefix, 100, red) + route(family, prefix, other, beside)
        node.shell.write("/tmp/batch", "\n".join(lines))
        node.shell.run(f"/bin/ip -{family} -batch /tmp/batch")


class Question:
    """One inner source on one interface, whose packet's destination port is its number."""

    def __init__(self, number, source, interface, what):
        self.port, self.interface, self.what = FIRST_PORT + number, interface, what
        self.family = 6 if ":" in source else 4
        self.source = source

    def frame(self):
        own = OWN[self.interface][self.family].partition("/")[0]
        data = packets.udp(self.source, own, b"asked", ports=(4660, self.port))
        packet = (packets.ipv4(self.source, own, packets.UDP, data) if self.family == 4
                  else packets.ipv6(self.source, own, packets.UDP, data))
        link = bytes.fromhex((WIRE if self.interface == "eth0" else PODS).replace(":", ""))
        return link + packets.ethernet(packet)[6:]


def questions():
    found = []
    for family in (4, 6):
        sources = [(SOURCES[family].format(number).partition("/")[0], f"red: {red or '-'}, other: {other or '-'}")
                   for number, (red, other) in enumerate(CASES)]
        for name, addresses in OWN.items():
            own = ipaddress.ip_interface(addresses[family])
            sources += [(str(own.ip), f"address of {name}"), (str(own.ip + 7), f"behind {name}")]
        sources.append(("203.0.113.7" if family == 4 else "2001:db8:77::7", "no route"))
        found += [(source, interface, what) for source, what in sources for interface in ("eth0", "pods0")]
    return [Question(number, str(ipaddress.ip_address(source)), *rest) for number, (source, *rest) in enumerate(found)]


def ports(node, name):
    listed = json.loads(node.shell.run(f"nft -j list set inet oracle {name}"))["nftables"]
    return set(next(entry["set"] for entry in listed if "set" in entry).get("elem", []))


def asked_kernel(node, asked):
    """Whether the kernel takes each: IPv4 by rp_filter=1, IPv6 by nft's `fib saddr . iif`."""
    node.shell.run("nft '" + ";".join(f"flush set inet oracle {name}" for name in ("seen", "arrived", "refused")) + "'")
    seen = set()
    for _ in range(20):
        for question in asked:
            if question.port not in seen:
                (node.wire if question.interface == "eth0" else node.pods).send(question.frame())
        time.sleep(0.2)
        seen = ports(node, "seen")
        if len(seen) == len(asked):
            break
    demand(len(seen) == len(asked), f"{len(seen)} of {len(asked)} packets came")
    arrived, refused = ports(node, "arrived"), ports(node, "refused")
    return [question.port in arrived if question.family == 4 else question.port not in refused
            for question in asked]


def answers(node, queries):
    """What /why answers: what `status --why` prints with --json."""
    if not queries:
        return []  # A file of no lines cannot be written: it would ask for an empty path.
    node.shell.write("/tmp/queries", "\n".join(f"/why?{query}" for query in queries))
    text = node.shell.run("ask </tmp/queries")
    return [json.loads(answer.partition("\r\n\r\n")[2]) for answer in text.split("HTTP/1.1 ")[1:]]


def asked_shuck(node, asked):
    """Whether shuck takes each, by a mirror that is the kernel's. The program itself is asked for one source, for it
    takes a quarter of a second to start in here; its socket, as the program does it, for all."""
    for _ in range(50):
        time.sleep(0.2)
        # Exit code 1 is a refusal.
        text = node.shell.run(f"shuck status --json --why {asked[0].source}", fails=True)
        demand(text.startswith("{"), text)
        first = json.loads(text)
        if first["age"] == 0:
            break
    sources = list(dict.fromkeys(question.source for question in asked))
    found = answers(node, [f"source={source}" for source in sources])
    demand([answer["source"] for answer in found] == sources, f"{len(found)} answers for {len(sources)} sources")
    # An address that the kernel has done looking for duplicates of is a change of routes, too.
    for answer in (first, found[0]):
        del answer["age"]
    demand(found[0] == first, f"the program says {first}, its socket {found[0]}")
    verdicts = {(answer["source"], verdict["interface"]): verdict["isAccepted"]
                for answer in found for verdict in answer["verdicts"]}
    return [verdicts[question.source, question.interface] for question in asked]


def explanation(node, question, ours, answer, domains):
    """What makes nft's answer another one than that of the route itself, or nothing. The arbiter is RTM_GETROUTE with
    `fibmatch`: it names the interface as the way in, which chooses the VRF and no route; it is right here, as no
    rule has `from` or `ipproto`."""
    if question.family == 4 or not answer["routes"]:
        return None
    device = f"dev {question.interface} "
    command = f"/bin/ip -6 route get fibmatch {question.source} iif {question.interface} 2>&1"
    if ours != (device in node.shell.run(command, fails=True)):
        return None
    best, *others = (route + " " for route in answer["routes"])
    if ours:
        return "hashed" if device in best and best.count("dev ") > 1 else None
    # Of a prefix's routes rt6_device_match prefers one in the VRF of the packet's destination address.
    outside = domains.get(best.split("dev ")[-1].split()[0]) != domains.get(question.interface)
    return "domain" if outside and any(device in other for other in others) else None


def compare(node, phase, domains):
    """How many were asked, were accepted, and had another answer of nft that is explained."""
    asked = questions()
    kernel, shuck = asked_kernel(node, asked), asked_shuck(node, asked)
    unlike = [(question, ours) for question, theirs, ours in zip(asked, kernel, shuck) if ours != theirs]
    whys = answers(node, [f"source={question.source}&interface={question.interface}" for question, _ in unlike])
    count, differences = Counter(asked=len(asked), accepted=sum(shuck)), []
    for (question, ours), answer in zip(unlike, whys):
        why = explanation(node, question, ours, answer, domains)
        if why:
            count[why] += 1
        else:
            differences.append(f"{phase}: {question.source} on {question.interface} ({question.what}): "
                               f"{'accepted' if ours else 'refused'} by shuck alone: {json.dumps(answer)}")
    demand(not differences, f"{len(differences)} of {len(asked)} differ:\n" + "\n".join(differences))
    demand(len(asked) // 20 < count["accepted"] < len(asked) // 2, f"{phase}: {count}")
    return count


def vrf(node):
    """The kernel and shuck of the same sources, with eth0 in a VRF and pods0 in none, then in another."""
    node.stop()
    node.start(interfaces="eth0, pods0")
    count = Counter()
    domains = {"eth0": "red", "blue0": "red", "green0": "green"}
    for phase, commands, other, more in (("as the kernel adds it", DEVICES, "main", {}),
                                         ("local behind", MOVED, "main", {}),
                                         ("two VRFs", BOTH, "200", {"pods0": "green"})):
        node.shell.run(f"(set -e\n{commands})")
        lay(node, other)
        count += compare(node, phase, domains | more)
    # A list of differences that none shows would hide others.
    demand(count["domain"] > 0, "nft no longer prefers a route in the VRF of the destination")
    demand(count["hashed"] < count["asked"] // 20, f"{count}")
    return (f"{count['asked']} questions, {count['accepted']} accepted, the kernel says the same; nft alone does not "
            f"of {count['domain']} by the destination's VRF, of {count['hashed']} by the flow's hash")
