# Checks of shuck in an emulated machine with four CPUs on two NUMA nodes, and a NIC on each node.
import json
import re
import shutil
import time

import machine
import packets
from corpus import CLIENT, LOCAL, NUMBER, POD, REMOTE, inner_family, outer_family
from shell import NIC, Shell

MODULES = ["virtio_pci", "virtio_console", "virtio_net", "veth", "tun", "sch_ingress", "cls_bpf"]
NODES = {0: [0, 1], 1: [2, 3]}
RING_PAGES = (16 << 20) // 4096
WIRE, PODS = "02:00:00:00:00:02", "02:00:00:00:00:03"

OPTIONS = [
    "-machine", "q35", "-smp", "4", "-m", "1280",
    "-object", "memory-backend-ram,id=memory0,size=640M", "-object", "memory-backend-ram,id=memory1,size=640M",
    "-numa", "node,nodeid=0,memdev=memory0,cpus=0-1", "-numa", "node,nodeid=1,memdev=memory1,cpus=2-3",
    # A PCI bus of node 1.
    "-device", "pxb-pcie,id=far,bus_nr=64,numa_node=1,bus=pcie.0",
    "-device", "pcie-root-port,id=bridge,bus=far,chassis=1",
]

NETWORK = f"""
for name in $(ls /sys/class/net); do
    case $(cat /sys/class/net/$name/address) in
    {PODS}) /bin/ip link set $name name pods0 ;;
    {WIRE}) /bin/ip link set $name name wire0 ;;
    esac
done
/bin/ip link set wire0 name eth0
# What is joined is joined by shuck, not by the kernel's GRO before it.
/bin/ip link set eth0 gro_max_size 1
echo 1 >/proc/sys/net/ipv4/ip_forward
echo 1 >/proc/sys/net/ipv6/conf/all/forwarding
for name in lo eth0 pods0; do /bin/ip link set $name up; done
/bin/ip address add {LOCAL[4]}/24 dev eth0
/bin/ip address add {LOCAL[6]}/64 dev eth0 nodad
for remote in {REMOTE[4]} {REMOTE[6]}; do
    /bin/ip neighbour add $remote lladdr 02:00:00:00:00:01 nud permanent dev eth0
    /bin/ip route add default via $remote dev eth0
done
for pod in {POD[4]} {POD[6]}; do
    /bin/ip route add $pod dev pods0
    /bin/ip neighbour add $pod lladdr 02:00:00:00:00:0c nud permanent dev pods0
done
mkdir -p /etc/shuck
"""

CONFIGURATION = f"""
interfaces: [eth0]
tunnels:
  - name: lvs
    local: [{LOCAL[4]}, "{LOCAL[6]}"]
    remotes: [{REMOTE[4]}, "{REMOTE[6]}"]
    destinations: [{{prefix: {POD[4]}/32}}, {{prefix: "{POD[6]}/128"}}]
"""


class Fault(Exception):
    """Something does not hold; the text says what."""


def demand(condition, text):
    if not condition:
        raise Fault(text)


def encapsulated(mode, packet):
    """The frame on the wire."""
    family, number = outer_family(mode), NUMBER[inner_family(mode)]
    outer = packets.ipv4 if family == 4 else packets.ipv6
    return packets.ethernet(outer(REMOTE[family], LOCAL[family], number, packet))


def segment(family, number, place, size=64):
    """The TCP segment at `place` of flow `number` to the pod. IPv4's identifications count up, as Linux has it."""
    source, destination = CLIENT[family], POD[family]
    data = packets.tcp(source, destination, bytes([place & 255]) * size, ports=(20000 + number, 80),
                       sequence=1 + place * size)
    if family == 4:
        return packets.ipv4(source, destination, packets.TCP, data, ident=1 + place)
    return packets.ipv6(source, destination, packets.TCP, data)


def datagram(family, number, size=64, fill=None):
    """A UDP datagram of flow `number` to the pod, filled with `fill`, or else the flow's number."""
    source, destination = CLIENT[family], POD[family]
    fill = number & 255 if fill is None else fill
    data = packets.udp(source, destination, bytes([fill]) * size, ports=(20000 + number, 80))
    ip = packets.ipv4 if family == 4 else packets.ipv6
    return ip(source, destination, packets.UDP, data)


class Node:
    """The booted machine: a shell in it, and the other ends of its two NICs."""

    def __init__(self, cache, work, shuck, more_modules=()):
        machine.check_host()
        root = machine.kernel(cache)
        image = machine.initramfs(root, work, [*MODULES, *more_modules], "shell-init",
                                  ["pages.c", "refuse.c", "ask.c"], programs=[shuck, shutil.which("nft")])
        self.wire, self.pods = NIC(work, "wire"), NIC(work, "pods")
        options = OPTIONS.copy()
        for nic, bus, mac in ((self.wire, "bridge", WIRE), (self.pods, "pcie.0", PODS)):
            options += ["-netdev", nic.backend(),
                        "-device", f"virtio-net-pci,netdev={nic.name},bus={bus},mac={mac},romfile="]
        self.shell = Shell(root, work, image, options)
        self.pid = None
        try:
            self.kernel = self.shell.run("uname -r").strip()
            self.shell.run(NETWORK)
        except BaseException:
            self.close()
            raise

    def start(self, more="", by="", interfaces="eth0"):
        """shuck run, until it forwards. `by`: a program that runs it."""
        configuration = CONFIGURATION.replace("[eth0]", f"[{interfaces}]") + more
        self.shell.write("/etc/shuck/shuck.yaml", configuration)
        # Emptied first: in the background that may come after the first look.
        self.shell.run(f": >/tmp/log\n{by} shuck run >>/tmp/log 2>&1 &\necho $! >/tmp/pid")
        for _ in range(600):
            log = self.shell.run("cat /tmp/log")
            if "forwarding" in log:
                self.pid = int(self.shell.run("cat /tmp/pid"))
                return log
            state = self.shell.run("grep State: /proc/$(cat /tmp/pid)/status", fails=True)
            demand(state and "zombie" not in state, f"shuck ended:\n{log}")
            time.sleep(0.2)
        raise Fault(f"shuck does not start:\n{log}")

    def stop(self):
        self.shell.run(f"kill {self.pid}; wait {self.pid}")
        self.pid = None

    def status(self):
        return json.loads(self.shell.run("shuck status --json"))

    def engine(self):
        """The process that forwards."""
        return self.status()["engineProcessID"]

    def affinities(self):
        """CPUs that each worker's thread may run on, by its name."""
        text = self.shell.run(f"cd /proc/{self.engine()}/task; grep -H . */comm; "
                              "grep -H Cpus_allowed_list */status; cd /")
        names = dict(re.findall(r"^(\d+)/comm:(\S+)$", text, re.M))
        return {names[thread]: cpus for thread, cpus in
                re.findall(r"^(\d+)/status:Cpus_allowed_list:\s*(\S+)$", text, re.M)}

    def pages(self):
        """For each mapping of shuck: its name, and pages by node."""
        result = []
        for line in self.shell.run(f"pages {self.engine()}").splitlines():
            name, _, _, *counts = line.split()
            result.append((name, {int(node): int(count) for node, count in
                                  (word.split("=") for word in counts)}))
        return result

    def pass_packets(self, count=16):
        """Sends packets of all modes and sees each come out to the pods, byte for byte."""
        for mode in packets.MODES:
            for number in range(count):
                packet = datagram(inner_family(mode), number)
                self.wire.send(encapsulated(mode, packet))
                self.expect(packet)

    def expect(self, packet):
        """The next packet to the pods must be this one."""
        got = self.pods.receive(lambda frame: frame[:6] == bytes.fromhex("02000000000c"))[14:]
        # The kernel routes on: one hop less, and IPv4's checksum follows.
        wanted = bytearray(packet)
        wanted[8 if packet[0] >> 4 == 4 else 7] -= 1
        if packet[0] >> 4 == 4:
            wanted[10:12] = packets.checksum(bytes(wanted[:10]) + b"\0\0" + bytes(wanted[12:20])) \
                .to_bytes(2, "big")
        demand(got == bytes(wanted), f"{got.hex()} came to the pod, not {bytes(wanted).hex()}")

    def pass_burst(self, burst):
        """Lets packets wait in the ring, so that shuck finds all at once.
        Returns how many more were injected, and in how many writes."""
        before = self.status()["packets"]
        counter = "$(cat /sys/class/net/eth0/statistics/rx_packets)"
        engine = self.engine()
        awaited = int(self.shell.run(f"kill -STOP {engine}; echo {counter}")) + len(burst)
        for packet in burst:
            self.wire.send(encapsulated("ip6ip", packet))
        # The driver counts them before it hands the last ones on.
        self.shell.run(f"for i in $(seq 100); do [ {counter} -ge {awaited} ] && break; sleep 0.1; done; "
                       f"sleep 0.2; kill -CONT {engine}")
        for packet in burst:
            self.expect(packet)
        after = self.status()["packets"]
        # shuck counts a packet behind its write.
        for _ in range(50):
            if after["received"] - before["received"] >= len(burst):
                break
            time.sleep(0.2)
            after = self.status()["packets"]
        return after["injected"] - before["injected"], after["writes"] - before["writes"]

    def close(self):
        self.shell.close()


def check_pages(node, wanted):
    """Every page of every ring and of each worker's buffers on its node. `wanted`: node by worker."""
    rings = []
    found = {}
    pages = node.pages()
    for name, counts in pages:
        if name.startswith("socket:["):
            rings.append(counts)
        for worker, place in wanted.items():
            if name.startswith(f"/memfd:shuck-worker-{worker}_"):
                demand(set(counts) == {place}, f"buffers of worker {worker}: pages by node {counts}")
                found[worker] = counts[place]
    demand(sorted(found) == sorted(wanted), f"buffers of workers {sorted(found)} of {sorted(wanted)}")
    expected = sorted(wanted.values())
    demand(sorted(place for ring in rings for place in ring) == expected
           and all(sum(ring.values()) == RING_PAGES for ring in rings), f"rings: pages by node {rings}")
    counters = [place for name, counts in pages if name.startswith("/memfd:shuck-counters") for place in counts]
    # After a reload too there is one a worker: nothing keeps the old ones.
    demand(sorted(counters) == expected, f"counters: on nodes {counters}")
    return found


def automatic(node):
    """workers.cpus: auto. The NIC is on node 1, of whose two CPUs pods keep one."""
    node.start()
    status = node.status()
    workers = [(worker["cpu"], worker["node"]) for worker in status["workers"]]
    demand(workers == [(3, 1)], f"workers (CPU, node): {workers}")
    demand(status["interfaces"][0]["nodes"] == [1], f"interface: {status['interfaces']}")
    affinities = {name: cpus for name, cpus in node.affinities().items() if name.startswith("shuck-worker")}
    demand(affinities == {"shuck-worker-0": "3"}, f"affinities: {affinities}")
    found = check_pages(node, {0: 1})
    demand([worker["pagesElsewhere"] for worker in status["workers"]] == [0], "pagesElsewhere")
    node.pass_packets()
    return f"1 worker, on CPU 3; 1 ring of {RING_PAGES} pages and buffers of {found[0]} on node 1"


def interrupts(node):
    """Where the NIC's interrupts are handled is said, with what mends it."""
    wire = node.shell.run("ls /sys/class/net/eth0/device/../msi_irqs").split()

    def warnings(count, wanted):
        # An interrupt moves when it next comes, and none comes for frames that the kernel finds by polling.
        for _ in range(30):
            node.pass_packets(4)
            placement = node.status()["placement"]
            found = [text for text in placement if re.search(wanted, text)]
            if len(found) == count:
                return found
            time.sleep(0.1)
        demand(False, f"{len(found)} instead of {count} of {wanted!r}: {placement}")

    def move(cpu):
        for number in wire:
            node.shell.run(f"echo {cpu} >/proc/irq/{number}/smp_affinity_list")

    move(0)
    far = warnings(1, r"of eth0 (is|are) handled on NUMA node 0, its workers run on node 1: "
                      r"for i in [\d ]+; do echo 2-3 >")
    demand(node.shell.run(far[0].partition("node 1: ")[2]) == "", "the command given prints something")
    # That of the way out seldom comes, and stays where it last came.
    warnings(0, "-input[^:]* handled on NUMA node 0")
    move(3)
    shared = r"of eth0 (is|are) handled on CPU (2-)?3, where (a worker runs|workers run)"
    warnings(1, shared)
    demand("! interrupt" in node.shell.run("shuck status"), "the screen shows no warning")
    demand(re.search(shared, node.shell.run("shuck check 2>&1 >/dev/null")), "check says nothing")
    return "an interrupt on the other node and one on a worker's CPU are told of, and the command given mends it"


def both_nodes(node):
    """Workers on both nodes: each with its memory on its own."""
    node.stop()
    log = node.start('workers: {cpus: "0,3"}\nconsume: bpf\n')
    demand("handled on CPU 3" in log, f"no warning at the start:\n{log}")
    status = node.status()
    workers = [(worker["cpu"], worker["node"], worker["pagesElsewhere"]) for worker in status["workers"]]
    demand(workers == [(0, 0, 0), (3, 1, 0)], f"workers (CPU, node, pages elsewhere): {workers}")
    check_pages(node, {0: 0, 1: 1})
    node.pass_packets()
    node.shell.run("shuck reload")
    check_pages(node, {0: 0, 1: 1})
    return "workers on CPUs 0 and 3: the rings, buffers and counters of each on its own node, also after a reload"


def refused(node):
    """The NUMA system calls refused, as in a container: first touch alone puts all where it belongs."""
    node.stop()
    demand("not permitted" in node.shell.run("refuse pages 1 2>&1", fails=True), "nothing is refused")
    node.start("consume: bpf\n", by="refuse")
    workers = [(worker["cpu"], worker["node"]) for worker in node.status()["workers"]]
    demand(len(workers) == 1 and workers[0][1] == 1, f"workers (CPU, node): {workers}")
    node.stop()
    node.start('workers: {cpus: "0,3"}\nconsume: bpf\n', by="refuse")
    check_pages(node, {0: 0, 1: 1})
    node.pass_packets()
    node.shell.run("shuck reload")
    check_pages(node, {0: 0, 1: 1})
    return "mbind, set_mempolicy and their like refused: the same CPUs and the same nodes"


def fallbacks(node):
    """Linux 6.1: no tcx, no UDP segmentation. Called with `consume: bpf`, and starts anew with `auto`."""
    status = node.status()
    demand(status["interfaces"][0]["claimActive"] == "clsact", f"consume bpf: {status['interfaces']}")
    device = status["devices"][0]
    demand(device["offloads"] == ["checksum", "tcp"] and device["joins"] == ["tcp"], f"offloads: {device}")
    demand(status["joining"] == "on, but shuck0 tcp only", f"joining: {status['joining']}")
    demand(any("UDP is written singly" in note and "6.2" in note for note in status["notes"]),
           f"notes: {status['notes']}")
    injected, writes = node.pass_burst([datagram(6, 1, fill=place) for place in range(8)])
    demand((injected, writes) == (8, 8), f"a UDP burst: {injected} packets in {writes} writes")
    injected, writes = node.pass_burst([segment(6, 1, place) for place in range(8)])
    demand((injected, writes) == (8, 1), f"a TCP burst: {injected} packets in {writes} writes")
    node.stop()
    node.start()
    status = node.status()
    demand(status["interfaces"][0]["claimActive"] == "socket", f"consume auto: {status['interfaces']}")
    demand(any("tcx" in note and "6.6" in note for note in status["notes"]), f"notes: {status['notes']}")
    node.pass_packets()
    answers = node.shell.run("grep -E '^Icmp6?OutDestUnreachs' /proc/net/snmp6; grep ^Icmp: /proc/net/snmp")
    head, values = [line.split() for line in answers.splitlines() if line.startswith("Icmp:")]
    demand(values[head.index("OutDestUnreachs")] == "0", f"the kernel answered:\n{answers}")
    demand(not re.search(r"^Icmp6OutDestUnreachs\s+[1-9]", answers, re.M), f"the kernel answered:\n{answers}")
    packets_seen = status["packets"]
    demand(packets_seen["received"] == sum(packets_seen[key] for key in
                                           ("injected", "passed", "dropped", "replied", "held")), "sums")
    return ("no tcx: clsact with bpf, raw sockets with auto, each named; 8 UDP datagrams in 8 writes, 8 TCP "
            "segments in 1; no ICMP by the kernel")


def selftest(node):
    """shuck selftest passes beside an eth0 of the host, and says what it falls back to."""
    summaries = []
    # All of them take 80 s.
    for name in ("udp", "mss"):
        output = node.shell.run(f"shuck selftest --filter {name}")
        demand("claim socket" in output and "note: eth0 is claimed by raw sockets" in output,
               f"selftest does not say what it falls back to:\n{output}")
        summaries.append(output.splitlines()[-1])
    left = node.shell.run("ls /tmp").split()
    demand(not any(name.startswith("shuck-selftest") for name in left), f"selftest left {left}")
    return "; ".join(summaries)


CHECKS = [automatic, interrupts, both_nodes, refused, fallbacks, selftest]
