# tools/bench on two hosts: send generates the traffic, receive runs the peers, over one TCP connection.
# Each message is a JSON object on one line: hello and hello; then "run" and the sent traffic, per request of receive.
import contextlib
import json
import os
import re
import socket
import subprocess
import tempfile
from pathlib import Path

import cases
import runner
from figures import host_facts
from peers import LAB, VIPS, Place, Problem, run

VERSION = 1
# The documentation's prefixes that the generator's inner sources are in.
CLIENTS = {"4": "198.51.100.0/24", "6": "2001:db8:c::/64"}
POD_MAC = "02:00:00:00:03:02"


def refuse_default_route(interface, told):
    for family in ("-4", "-6"):
        for route in json.loads(run("ip", family, "-json", "route", "show", "default") or "[]"):
            if route.get("dev") == interface and not told:
                raise Problem(f"{interface} carries this host's default route; take another, or say --default-route-too", 3)


def addresses(interface):
    """Its first global address of each family, and its MAC."""
    found = json.loads(run("ip", "-json", "address", "show", "dev", interface))[0]
    chosen = {}
    for info in found["addr_info"]:
        if info["scope"] == "global":
            chosen.setdefault("4" if info["family"] == "inet" else "6", info["local"])
    return chosen, found["address"]


def endpoint(text, parser):
    host, colon, port = (text or "").rpartition(":")
    if not colon or not port.isdigit():
        parser.error("ADDRESS:PORT of the sender's control connection is needed (--listen, --from)")
    return host.strip("[]"), int(port)


def nic_counters(interface):
    """Everything that the kernel and the driver count of an interface."""
    counters = {path.name: int(path.read_text())
                for path in Path(f"/sys/class/net/{interface}/statistics").iterdir()}
    driver = subprocess.run(["ethtool", "-S", interface], capture_output=True, text=True).stdout
    counters.update({f"ethtool {name.strip()}": int(value) for name, value in re.findall(r"^\s*(.+?): (\d+)$", driver, re.M)})
    return counters


def moved(before, after):
    return {name: value - before.get(name, 0) for name, value in after.items() if value != before.get(name, 0)}


class Line:
    """The control connection."""

    def __init__(self, connection):
        connection.settimeout(600)
        self.file = connection.makefile("rw", encoding="utf-8")

    def say(self, message):
        self.file.write(json.dumps(message) + "\n")
        self.file.flush()

    def hear(self):
        text = self.file.readline(1 << 20)
        if not text:
            raise Problem("the other host closed the control connection")
        message = json.loads(text)
        if "problem" in message:
            raise Problem(f"the other host: {message['problem']}")
        return message


def next_hop(interface, address, their_mac, given_mac):
    """The MAC that frames for an address leave to: the router's where there is one, else the host's own."""
    if given_mac:
        return given_mac
    route = json.loads(run("ip", "-json", "route", "get", address))[0]
    if route.get("dev") != interface:
        raise Problem(f"the way to {address} leads out of {route.get('dev')}, not {interface}", 3)
    if "gateway" not in route:
        return their_mac
    subprocess.run(["ping", "-c", "1", "-W", "1", route["gateway"]], capture_output=True)
    for neighbour in json.loads(run("ip", "-json", "neighbour", "show", "dev", interface)):
        if neighbour["dst"] == route["gateway"] and "lladdr" in neighbour:
            return neighbour["lladdr"]
    raise Problem(f"no MAC of the router {route['gateway']}: say --via-mac", 3)


def generator(interface, given, hello):
    """The command that makes the traffic towards the host that said hello."""
    family = "4" if given.mode in ("ipip", "ip6ip") else "6"
    ours, mac = addresses(interface)
    if family not in ours or family not in hello["addresses"]:
        raise Problem(f"{given.mode} needs an IPv{family} address on both interfaces", 3)
    target = hello["addresses"][family]
    return [LAB, "generate", interface, "--mode", given.mode, "--size", given.size, "--flows", given.flows,
            "--burst", given.burst, "--rate", given.rate, "--seconds", given.seconds, "--cpu", os.cpu_count() - 1,
            "--local", ours[family], "--remote", target, "--src-mac", mac,
            "--dst-mac", next_hop(interface, target, hello["mac"], given.via_mac)]


def send(given, parser):
    if len(given.cases) != 2:
        parser.error("send takes one INTERFACE")
    interface = given.cases[1]
    refuse_default_route(interface, given.default_route_too)
    host, port = endpoint(given.listen, parser)
    with socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET) as server:
        print(f"listening on {given.listen}", flush=True)
        connection, peer = server.accept()
    with connection:
        line = Line(connection)
        try:
            hello = line.hear()
            if hello.get("version") != VERSION:
                raise Problem(f"the other tools/bench speaks version {hello.get('version')}, this one {VERSION}")
            command = generator(interface, given, hello)
            line.say({"version": VERSION, "facts": host_facts(), "remotes": list(addresses(interface)[0].values()),
                      "mode": given.mode, "traffic": f"{given.mode}, {given.size} bytes, {given.flows} flows, bursts of "
                      f"{given.burst}, {given.rate} packets per second, {given.seconds:g} s"})
            print(f"sending to {peer[0]}", flush=True)
            while line.hear().get("run"):
                before = nic_counters(interface)
                sent = json.loads(run(*command))
                line.say({**sent, "counters": moved(before, nic_counters(interface))})
        except (Problem, subprocess.CalledProcessError) as error:
            with contextlib.suppress(OSError):
                line.say({"problem": (getattr(error, "stderr", None) or str(error)).strip()})
            raise
    return 0


class Link:
    """The sender, as the cases know the lab's generator; and what the NICs counted meanwhile."""

    def __init__(self, line, place):
        self.line, self.place, self.counters = line, place, []

    def generate(self, _seconds):
        before = nic_counters(self.place.interface)
        self.line.say({"run": True})
        sent = self.line.hear()
        self.counters.append({"sender": sent["counters"],
                              "receiver": moved(before, nic_counters(self.place.interface))})
        # What the sender waited is no CPU of this host.
        return {**sent, "waited_seconds": 0}


@contextlib.contextmanager
def pod(interface, name):
    """A pod on this host, and routes for the test's addresses: gone again afterwards."""
    veth = name[:15]
    links = f"""link add {veth} type veth peer name eth0 netns {name} address {POD_MAC}
link set {veth} mtu 1460 up
"""
    inner = "link set lo up\nlink set eth0 mtu 1460 up\n"
    for vip in VIPS.values():
        links += f"route add {vip} dev {veth}\nneighbour replace {vip} lladdr {POD_MAC} dev {veth} nud permanent\n"
    routes = [prefix for prefix in CLIENTS.values()]
    run("ip", "netns", "add", name)
    added = []
    try:
        run("ip", "-batch", "-", input=links)
        run("ip", "-n", name, "-batch", "-", input=inner)
        for prefix in routes:   # the reverse path of the generator's sources
            run("ip", "route", "add", prefix, "dev", interface)
            added.append(prefix)
        run("ip", "netns", "exec", name, LAB, "sink", "attach", "eth0")
        yield veth
    finally:
        for prefix in added:
            subprocess.run(["ip", "route", "delete", prefix, "dev", interface], capture_output=True)
        subprocess.run(["ip", "link", "delete", veth], capture_output=True)
        subprocess.run(["ip", "netns", "delete", name], capture_output=True)


def refuse_without_forwarding(mode):
    path, key = ("/proc/sys/net/ipv4/ip_forward", "net.ipv4.ip_forward") if mode in ("ipip", "ipip6") else \
        ("/proc/sys/net/ipv6/conf/all/forwarding", "net.ipv6.conf.all.forwarding")
    if Path(path).read_text().strip() != "1":
        raise Problem(f"this host does not forward: sysctl -w {key}=1", 3)


def receive(given, parser):
    """Runs the peers on this host while the sender sends: the bench with its rows, and the sender's facts."""
    if len(given.cases) != 2:
        parser.error("receive takes one INTERFACE")
    interface, name = given.cases[1], f"bench{os.getpid()}"
    refuse_default_route(interface, given.default_route_too)
    ours, mac = addresses(interface)
    host, port = endpoint(vars(given)["from"], parser)
    with contextlib.ExitStack() as stack:
        connection = stack.enter_context(socket.create_connection((host, port), timeout=20))
        line = Line(connection)
        line.say({"version": VERSION, "addresses": ours, "mac": mac})
        hello = line.hear()
        refuse_without_forwarding(hello["mode"])
        veth = stack.enter_context(pod(interface, name))
        work = stack.enter_context(tempfile.TemporaryDirectory(prefix="shuck-bench."))
        place = Place([], interface, veth, name, ours, hello["remotes"], (hello["mode"],))
        link = Link(line, place)
        bench = runner.Bench(link, given.shuck, work, quick=given.quick, pairs=given.pairs, seconds=given.seconds,
                             only=given.peers)
        bench.note(f"traffic: {hello['traffic']}; it comes in on {interface}")
        bench.look()
        bench.say(runner.HEAD)
        bench.measure(cases.Point("two hosts", "from the other host", cases.flood()))
        line.say({"run": False})
        for side in ("sender", "receiver"):
            counted = {}
            for run_of in link.counters:
                for counter, value in run_of[side].items():
                    counted[counter] = counted.get(counter, 0) + value
            bench.note(f"the {side}'s NIC, all runs: " + ", ".join(f"{k} {v}" for k, v in sorted(counted.items())))
        return bench, hello["facts"]
