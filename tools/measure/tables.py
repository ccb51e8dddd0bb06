# Writes a run as Markdown tables: the aims, the comparison of the peers; and fills the tables into the documents.
import re
import statistics
from dataclasses import dataclass

from figures import ROOT, number
from peers import titles

DOCUMENTS = ("README.md", "docs/performance.md")


@dataclass(frozen=True)
class Aim:
    """What shuck is to reach: a figure of a point, as a ratio to a peer or as it is."""
    traffic: str
    point: str
    peer: str
    figure: str
    bound: float
    at_least: bool = False
    of: str = "ratio"      # or "value"
    unit: str = ""


BURSTS = "bursts of {}, 900 kpps offered"
AIMS = (
    Aim("nothing to join: small packets of 1024 flows, delivered", "small, saturated", "shuck", "delivered_mpps", 1.0, True),
    Aim("the same, device in the pod", "small, saturated", "shuck-pod", "delivered_mpps", 1.25, True),
    Aim("bursts of 8, worker CPU per packet", BURSTS.format(8), "shuck", "worker_cpu_ns", 0.4),
    Aim("bursts of 64, worker CPU per packet", BURSTS.format(64), "shuck", "worker_cpu_ns", 0.2),
    Aim("bursts of 8, host CPU per delivered packet", BURSTS.format(8), "shuck", "host_cpu_ns", 0.8),
    Aim("bursts of 64, host CPU per delivered packet", BURSTS.format(64), "shuck", "host_cpu_ns", 0.8),
    Aim("one TCP stream of GSO frames", "one TCP stream", "shuck", "mbit_per_s", 0.8, True),
    Aim("round trip on one CPU, `busyPoll: 0us`, median", "round trip, one CPU, busyPoll 0us", "shuck", "median_us", 1.5),
    Aim("round trip on one CPU, `busyPoll: 0us`, p99", "round trip, one CPU, busyPoll 0us", "shuck", "p99_us", 2.0),
    Aim("round trip, worker on another CPU, `busyPoll: 1ms`, median", "round trip, another CPU, busyPoll 1ms", "shuck",
        "median_us", 1.5),
    Aim("user space, frame to verdict, 100,000 routes", "ipip", "shuck", "instructions to the verdict", 150, of="value",
        unit="instructions"),
    Aim("allocations", "ipip", "shuck", "allocations", 0, of="value"),
    Aim("idle, CPU", "idle", "shuck", "idle_cpu", 0.5, of="value", unit="% of a core"),
    Aim("idle, resident beside the rings", "idle", "shuck", "memory_mib", 64, of="value", unit="MiB"),
)


def found(rows):
    return {(row["point"], row["peer"], row["figure"]): row for row in rows}


def judged(aim, row):
    """Whether a row reaches the aim, by the median and in each round, and by which ratios or values; None if it has none."""
    values = row.get("ratios") if aim.of == "ratio" else row["values"]
    if not values:
        return None

    def holds(value):
        return value >= aim.bound if aim.at_least else value <= aim.bound
    in_each = len(set(map(holds, values))) == 1
    if holds(statistics.median(values)):
        return "yes" if in_each else "yes, not in each round", values
    return "**no**" if in_each else "**no**, in some rounds", values


def aims(rows):
    known, lines = found(rows), []
    for aim in AIMS:
        row = known.get((aim.point, aim.peer, aim.figure))
        reached, values = row and judged(aim, row) or (None, None)
        if not reached:
            continue
        least, most = min(values), max(values)
        unit = f" × {row['to']}" if aim.of == "ratio" else f" {aim.unit}".rstrip()
        spread = f"{number(least)}–{number(most)}" if least != most else ""
        bound = f"{'≥' if aim.at_least else '≤'} {number(aim.bound)}{unit}"
        lines.append(f"| {aim.traffic} | {bound} | {number(statistics.median(values))} | {spread} | {reached} |")
    return headed(("traffic", "aim", "here", "range", "reached"), lines)


def headed(names, lines):
    return "\n".join([f"| {' | '.join(names)} |", "| " + " | ".join("---" for _ in names) + " |", *lines]) if lines else ""


def in_order(rows, key):
    return list(dict.fromkeys(row[key] for row in rows if row.get("verdict") != "noise"))


def cell(row):
    """The median, and its ratio to the baseline with a mark where the noise covers the difference."""
    if row is None:
        return ""
    pair = row.get("ratios")
    return number(row["median"]) + (f" ({statistics.median(pair):.2f}{uncalled(row)})" if pair else "")


def uncalled(row):
    return " ~" if row.get("verdict") == "not beyond noise" else ""


def peers(rows):
    """The peers beside each other, where nothing can be joined and where all can."""
    known = found(rows)
    columns = [("small, saturated", "delivered_mpps", "each of another flow, Mpps"),
               ("small, 300 kpps offered", "host_cpu_ns", "the same at 300 kpps, host CPU per packet, ns"),
               (BURSTS.format(64), "delivered_mpps", "bursts of 64, Mpps"),
               (BURSTS.format(64), "host_cpu_ns", "the same, host CPU per packet, ns")]
    if not any(key[0] in (point for point, *_ in columns) for key in known):
        return ""
    names = in_order([row for row in rows if row["point"] == "small, saturated"], "peer")
    return headed(("peer", *(title for *_, title in columns)),
                  [f"| {titles()[name]} | " + " | ".join(cell(known.get((point, name, figure))) for point, figure, _ in columns) + " |"
                   for name in names])


def matrix(rows, figure):
    """A row for each point, a column for each peer: the figure, and its ratio."""
    rows = [row for row in rows if row["figure"] == figure and row["case"] != "gates"]
    known, names = found(rows), in_order(rows, "peer")
    return headed(("traffic", *names),
                  [f"| {point} | " + " | ".join(cell(known.get((point, name, figure))) for name in names) + " |"
                   for point in in_order(rows, "point")])


def gates(rows):
    rows = [row for row in rows if row["case"] == "gates"]
    known = found(rows)
    columns = ("instructions to the verdict", "instructions of the worker", "writes per packet")
    return headed(("path", *columns),
                  [f"| {path} | " + " | ".join(cell(known.get((path, "shuck", column))) for column in columns) + " |"
                   for path in in_order(rows, "point")])


def tables(rows):
    """Every table by its name; empty where the run has no rows for it."""
    return {"aims": aims(rows), "peers": peers(rows), "delivered": matrix(rows, "delivered_mpps"),
            "host CPU": matrix(rows, "host_cpu_ns"), "worker CPU": matrix(rows, "worker_cpu_ns"),
            "writes": matrix(rows, "writes_per_packet"), "loss-free": matrix(rows, "loss_free_mpps"),
            "bulk": matrix(rows, "mbit_per_s"), "median": matrix(rows, "median_us"), "p99": matrix(rows, "p99_us"),
            "p99.9": matrix(rows, "p999_us"), "memory": matrix(rows, "memory_mib"), "gates": gates(rows)}


def filled(text, made):
    """A document with the tables between `<!-- bench NAME -->` and `<!-- end -->` made anew; an empty one stays as it was."""
    def anew(match):
        return f"{match[1]}\n{made.get(match[2]) or match[3] or 'Not in this run.'}\n{match[4]}"
    return re.sub(r"(<!-- bench ([^>]+) -->)\n(.*?)\n?(<!-- end -->)", anew, text, flags=re.S)


def write_documents(rows):
    made = tables(rows)
    for name in DOCUMENTS:
        path = ROOT / name
        path.write_text(filled(path.read_text(encoding="utf-8"), made), encoding="utf-8")
