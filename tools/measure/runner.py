# Runs the points: all peers in turn in each round, and one row per figure and peer.
import contextlib
import json
import statistics
import sys

import cases
from figures import busy_share, number, ratios, verdict
from peers import LAB, Problem, again, everyone


# Busy share of the host's CPUs while the bench pauses. Above this the host is not quiet.
BUSY_MOST = 0.1


class Bench:
    """One run: its rig, its settings, and the rows that come of it."""

    def __init__(self, rig, binary, work, *, quick, pairs, seconds, only, out=sys.stdout):
        self.rig, self.place, self.binary, self.work = rig, rig.place, binary, work
        self.quick, self.pairs, self.seconds, self.only, self.out = quick, pairs, seconds, only, out
        self.rows, self.notes, self.distributions, self.point = [], [], {}, None
        self.joins = True

    def say(self, line):
        print(line, file=self.out, flush=True)

    def note(self, line):
        self.notes.append(line)
        self.say(f"# {line}")

    def look(self):
        """What this host lacks, each a line; and whether this shuck joins."""
        self.absent = {}
        for peer in everyone(self.place, self.binary, self.work):
            why = peer.missing() if self.wanted(peer) else None
            if why:
                self.absent[peer.name] = why
                self.note(f"not measured: {peer.name}, {peer.title}: {why}")
            if peer.name == "shuck" and self.wanted(peer):
                with peer:
                    joining = peer.status()["joining"]
                self.joins = joining.startswith("on")
                if not self.joins:
                    self.note(f"joined and not joined are one: shuck's joining is {joining}")

    def wanted(self, peer):
        return not self.only or peer.name in self.only or peer.name == cases.BASELINE

    def peers(self, point):
        chosen = []
        for peer in everyone(self.place, self.binary, self.work, **point.how):
            if peer.name in self.absent or not self.wanted(peer) or point.peers and peer.name not in point.peers:
                continue
            if peer.name.endswith("-single") and (not self.joins or point.case in ("latency", "idle", "bulk")
                                                  or self.quick and point.case != "bursts"):
                continue
            if point.case in ("bulk", "latency") and not peer.takes_offloads:
                self.note(f"{point.name}: {peer.name} cannot take joined frames and unfinished checksums")
                continue
            chosen.append(peer)
        return chosen

    def measure(self, point):
        """Runs a point's peers in turn, forwards and backwards, and the first one twice."""
        self.point, peers = point, self.peers(point)
        if len(peers) > 1 and peers[0].name == cases.BASELINE:
            peers.append(again(peers[0]))
        samples, others = {peer.name: [] for peer in peers}, 0
        with point.around(self) if point.around else contextlib.nullcontext():
            for turn in range(self.pairs):
                others = max(others, busy_share(0.2))
                for peer in peers if turn % 2 == 0 else reversed(peers):
                    samples[peer.name].append(point.measure(self, peer))
        if others > BUSY_MOST:
            self.note(f"{point.name}: not a quiet host: between the rounds other work took up to {100 * others:.0f} % of it")
        self.add_rows(point, peers, samples)

    def add_rows(self, point, peers, samples):
        for figure, (unit, more_is_better) in cases.FIGURES.items():
            for peer in peers:
                if any(figure not in sample for sample in samples[peer.name]):
                    continue
                values = [sample[figure] for sample in samples[peer.name]]
                row = {"case": point.case, "point": point.name, "peer": peer.name, "figure": figure, "unit": unit,
                       "more_is_better": more_is_better, "values": values, "median": statistics.median(values)}
                other = compared_with(peer.name, figure, samples)
                if other:
                    baseline = [sample[figure] for sample in samples[other]]
                    control = samples.get(f"{other} again", [])
                    row["to"], row["ratios"] = other, ratios(values, baseline)
                    row["verdict"] = verdict(row["ratios"], ratios([c[figure] for c in control], baseline)) \
                        if not peer.name.endswith(" again") else "noise"
                curves = self.distributions.get((point.name, peer.name))
                if curves and figure == "median_us":
                    row["distribution"] = curves[len(curves) // 2]
                self.rows.append(row)
                self.say(line(row))


def compared_with(peer, figure, samples):
    """The peer that a figure is a ratio to: the baseline, or, of what only user space has, the same without joining."""
    for other in (cases.BASELINE, f"{peer}-single"):
        if other != peer and figure in samples.get(other, [{}])[0]:
            return other
    return None


HEAD = f"{'point':36} {'figure':18} {'peer':17} {'median':>10} {'spread':>19} {'ratio':>6}  range"


def line(row):
    values, pair = row["values"], row.get("ratios")
    text = f"{row['point'][:36]:36} {row['figure']:18} {row['peer']:17} {number(row['median']):>10} " \
           f"{number(min(values)) + '-' + number(max(values)):>19}"
    if pair:
        text += f" {statistics.median(pair):6.2f}  {min(pair):.2f}-{max(pair):.2f}  {row['verdict']}"
        if row["to"] != cases.BASELINE:
            text += f" (to {row['to']})"
    return text


def write_json(path, head, rows):
    """What the run was in the first line, then a line for each row."""
    with open(path, "w", encoding="utf-8") as file:
        for part in (head, *rows):
            file.write(json.dumps(part) + "\n")


def read_json(path):
    with open(path, encoding="utf-8") as file:
        head, *rows = [json.loads(text) for text in file if text.strip()]
    if "command" not in head:
        raise Problem(f"{path}: not what tools/bench --json writes", 2)
    return head, rows


def merged(heads):
    """One head for several runs: what they differ in, one after the other."""
    def joined(values):
        return "; ".join(dict.fromkeys(str(value) for value in values))
    head = {"command": joined(head["command"] for head in heads),
            "notes": list(dict.fromkeys(note for head in heads for note in head["notes"]))}
    for key in ("host", "sender"):
        facts = [head[key] for head in heads if key in head]
        if facts:
            head[key] = {name: joined(fact.get(name, "unknown") for fact in facts) for name in facts[0]}
    return head
