# Instructions per packet of the kernel's tunnels and of shuck, counted in an emulated machine with one CPU.
import base64
import struct

import machine
import packets
from corpus import inner_family
from nodes import CONFIGURATION, datagram, encapsulated, segment
from shell import Shell

MODULES = machine.MODULES + ["sch_ingress", "cls_bpf"]
# One instruction is one nanosecond of the machine's time, so its time-stamp counter counts them.
OPTIONS = ["-machine", "q35", "-smp", "1", "-m", "1024", "-icount", "shift=0"]
BURST = 64
PAYLOAD = 64
TUNNELS = ["ipip1", "ipip3", "sit1", "sit3", "ip6tnl1", "ip6tnl3", "shuck0"]


class Load:
    """What is sent: its name, packets at once, a function that makes packet n of a family, bytes of its transport
    header, and whether the veth to the pod takes joined ones."""

    def __init__(self, name, burst, packet, transport, whole=False):
        self.name, self.burst, self.packet, self.transport, self.whole = name, burst, packet, transport, whole


def of_one_flow(family, place):
    return segment(family, 1, place, PAYLOAD)


def of_many_flows(family, number):
    return datagram(family, number, PAYLOAD)


LOADS = [
    Load("UDP, one by one", 1, of_many_flows, 8),
    Load("UDP, 64 flows at once", BURST, of_many_flows, 8),
    Load("TCP, 64 segments of a flow at once, cut before the pod", BURST, of_one_flow, 20),
    Load("the same, the pod takes them joined", BURST, of_one_flow, 20, whole=True),
]


class Counter:
    """The booted machine, laid as for the oracle: wire0 = eth0, tunnels, and a veth to the pods."""

    def __init__(self, cache, work, shuck, packet_count):
        machine.check_host()
        root = machine.kernel(cache)
        image = machine.initramfs(root, work, MODULES, "shell-init", ["stream.c"], programs=[shuck],
                                  files=["network"])
        self.packet_count = packet_count
        self.shell = Shell(root, work, image, OPTIONS, timeout=1500)
        try:
            self.kernel = self.shell.run("uname -r").strip()
            self.shell.run("sh -e /network")
        except BaseException:
            self.close()
            raise

    def count(self, load, frames, family):
        """Instructions per packet from the sender's system call to the pod's veth, and packets that a burst made."""
        data = b"".join(struct.pack("<I", len(frame)) + frame for frame in frames)
        self.shell.write("/tmp/frames64", base64.encodebytes(data).decode().strip())
        self.shell.run("base64 -d /tmp/frames64 >/tmp/frames")
        headers = 14 + (20 if family == 4 else 40) + load.transport
        command = f"stream wire0 pod0 {load.burst} {self.packet_count} {headers} {PAYLOAD} /tmp/frames"
        # Again when the kernel has told its neighbours something meanwhile, which makes the sums wrong.
        text = self.shell.run(f"for i in 1 2 3; do {command} && break; done 2>&1")
        try:
            instructions, sent, received = (int(word) for word in text.splitlines()[-1].split())
        except (IndexError, ValueError):
            raise RuntimeError(f"in the machine: {command}: {text}") from None
        return instructions / sent, received / (sent / load.burst)

    def column(self, wrap):
        """By load and mode; `wrap` makes a frame of a mode and an inner packet."""
        figures = {}
        for load in LOADS:
            # By size (the least that it takes is some 300), for what comes from a TUN has no count of segments yet.
            self.shell.run(f"/bin/ip link set cali0 gso_max_size {65536 if load.whole else 512}")
            for mode in packets.MODES:
                family = inner_family(mode)
                frames = [wrap(mode, load.packet(family, number)) for number in range(BURST)]
                figures[load.name, mode] = self.count(load, frames, family)
        return figures

    def start(self):
        """shuck in place of the tunnels."""
        for device in TUNNELS:
            self.shell.run(f"/bin/ip link del {device}")
        self.shell.write("/tmp/shuck.yaml", CONFIGURATION + "consume: bpf\nreversePath: {mode: loose}\n")
        self.shell.run("mkdir -p /run/shuck; shuck run --config /tmp/shuck.yaml >/tmp/log 2>&1 &\n"
                       "for i in $(seq 600); do grep -q forwarding /tmp/log && break; sleep 0.2; done\n"
                       "grep forwarding /tmp/log || { cat /tmp/log; false; }")

    def close(self):
        self.shell.close()


def table(counter):
    """Lines of a Markdown table."""
    plain = counter.column(lambda mode, packet: packets.ethernet(packet))
    kernel = counter.column(encapsulated)
    counter.start()
    shuck = counter.column(encapsulated)
    lines = ["| sent | mode | routed only | kernel | shuck | shuck / kernel | packets to the pod per burst |",
             "| --- | --- | ---: | ---: | ---: | ---: | --- |"]
    for load in LOADS:
        for mode in packets.MODES:
            (base, _), (theirs, kernel_out), (ours, shuck_out) = (
                column[load.name, mode] for column in (plain, kernel, shuck))
            lines.append(f"| {load.name} | {mode} | {base:.0f} | {theirs:.0f} | {ours:.0f} | {ours / theirs:.2f} "
                         f"| {kernel_out:.3g}, {shuck_out:.3g} |")
    return lines
