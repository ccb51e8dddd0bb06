# Tests the bench's own arithmetic: when a difference counts, and how the page and a comparison use rows.
#   python3 -B -m unittest discover -s tools/measure
import random
import unittest
import xml.etree.ElementTree

import cases
import compare
import figures
import gates
import page
import runner
import tables


def row(peer, values, ratios=None, **more):
    return {"case": "small", "point": "small", "peer": peer, "figure": "delivered_mpps", "unit": "Mpps", "more_is_better": True,
            "values": values, "median": sorted(values)[len(values) // 2],
            **({"ratios": ratios, "to": "tc-bpf"} if ratios else {}), **more}


class Verdicts(unittest.TestCase):
    control = [0.97, 1.02, 0.99, 1.01, 1.03]

    def test_a_difference_beyond_the_control_is_called(self):
        self.assertEqual(figures.verdict([1.2, 1.3, 1.25, 1.22, 1.4], self.control), "higher")
        self.assertEqual(figures.verdict([0.8, 0.7, 0.75, 0.72, 0.9], self.control), "lower")

    def test_one_pair_the_other_way_and_nothing_is_called(self):
        self.assertEqual(figures.verdict([1.2, 1.3, 0.99, 1.22, 1.4], self.control), "not beyond noise")

    def test_what_the_baseline_differs_from_itself_is_no_difference(self):
        self.assertEqual(figures.verdict([1.01, 1.02, 1.02, 1.01, 1.03], self.control), "not beyond noise")

    def test_four_pairs_call_nothing(self):
        self.assertEqual(figures.verdict([2, 2, 2, 2], []), "too few pairs")

    def test_equal_peers_are_seldom_told_apart(self):
        source, called = random.Random(3), 0
        for _ in range(2000):
            noise = [source.lognormvariate(0, 0.05) for _ in range(15)]
            pair = [a / b for a, b in zip(noise[:5], noise[5:10])]
            control = [a / b for a, b in zip(noise[10:], noise[5:10])]
            called += figures.verdict(pair, control) in ("higher", "lower")
        self.assertLess(called, 2000 * 0.03)


class Permutations(unittest.TestCase):
    def test_all_divisions_of_two_groups_apart(self):
        # Of the 252 divisions of ten only the two groups themselves have means so far apart.
        self.assertEqual(figures.permutation_p([1, 2, 3, 4, 5], [101, 102, 103, 104, 105]), 2 / 252)
        self.assertEqual(figures.permutation_p([1, 1, 1], [1, 1, 1]), 1)

    def test_random_divisions_agree_with_all(self):
        before, after = [1, 2, 3, 4, 5, 6], [4, 5, 6, 7, 8, 9]
        exact = figures.permutation_p(before, after)
        self.assertAlmostEqual(figures.permutation_p(before, after, most=900), exact, delta=0.05)


class Comparisons(unittest.TestCase):
    def test_worse_better_same(self):
        high, low = [5.0, 5.1, 5.2, 5.1, 5.0], [4.0, 4.1, 4.2, 4.1, 4.0]
        self.assertEqual(compare.judged(high, low, True, False)["result"], "worse")
        self.assertEqual(compare.judged(low, high, True, False)["result"], "better")
        self.assertEqual(compare.judged(low, high, False, False)["result"], "worse")
        self.assertEqual(compare.judged(high, [v * 1.001 for v in high], True, False)["result"], "same")

    def test_three_rounds_cannot_tell(self):
        self.assertEqual(compare.judged([1, 1, 1], [2, 2, 2], True, False)["result"], "too few pairs")

    def test_gates_are_exact(self):
        self.assertEqual(compare.judged([250], [251], False, True)["result"], "worse")

    def test_ratios_count_where_both_runs_have_them(self):
        # The second host is half as fast, shuck's share of the baseline is the same.
        before = [row("shuck", [1, 1, 1, 1, 1], [0.5, 0.51, 0.5, 0.52, 0.5])]
        after = [row("shuck", [.5, .5, .5, .5, .5], [0.5, 0.51, 0.5, 0.52, 0.5])]
        self.assertEqual(compare.compared(before, after)[0]["result"], "same")


class References(unittest.TestCase):
    def test_what_only_user_space_has_is_compared_with_single_writes(self):
        samples = {"tc-bpf": [{"host_cpu_ns": 1}], "shuck": [{"host_cpu_ns": 1, "worker_cpu_ns": 1}],
                   "shuck-single": [{"host_cpu_ns": 1, "worker_cpu_ns": 1}]}
        self.assertEqual(runner.compared_with("shuck", "host_cpu_ns", samples), "tc-bpf")
        self.assertEqual(runner.compared_with("shuck", "worker_cpu_ns", samples), "shuck-single")
        self.assertIsNone(runner.compared_with("shuck-single", "worker_cpu_ns", samples))
        self.assertIsNone(runner.compared_with("tc-bpf", "host_cpu_ns", samples))


class Memory(unittest.TestCase):
    def test_packet_rings_are_told_apart(self):
        smaps = ("7f0000000000-7f0001000000 rw-s 00000000 00:08 1234 socket:[1234]\nSize: 16384 kB\nRss: 16384 kB\n"
                 "7f0002000000-7f0002010000 rw-p 00000000 00:00 0\nRss: 64 kB\n")
        self.assertEqual(figures.rings(smaps), 16384)


class Tables(unittest.TestCase):
    def test_an_aim_is_reached_or_not(self):
        aim = tables.Aim("t", "small, saturated", "shuck", "delivered_mpps", 1.0, True)
        ratios = [0.9, 1.1, 1.2, 1.3, 0.8]
        self.assertEqual(tables.judged(aim, row("shuck", [1] * 5, ratios)), ("yes, not in each round", ratios))
        self.assertEqual(tables.judged(tables.Aim("t", "", "", "", 0, of="value"), row("shuck", [1, 1]))[0], "**no**")
        self.assertEqual(tables.judged(tables.Aim("t", "", "", "", 1, of="value"), row("shuck", [1, 1]))[0], "yes")
        self.assertIsNone(tables.judged(aim, row("shuck", [1] * 5)))

    def test_only_what_was_measured_is_written_anew(self):
        text = "a\n<!-- bench aims -->\nold\n<!-- end -->\nb\n<!-- bench gates -->\nkept\n<!-- end -->\n"
        self.assertEqual(tables.filled(text, {"aims": "| new |", "gates": ""}),
                         text.replace("old", "| new |"))

    def test_each_aim_has_its_point(self):
        points = {point.name for point in cases.points()} | set(gates.PATHS)
        self.assertEqual({aim.point for aim in tables.AIMS} - points, set())

    def test_noise_is_marked(self):
        rows = [row("tc-bpf", [1, 1, 1]), row("shuck", [2, 2, 2], [2, 2, 2], verdict="not beyond noise")]
        self.assertIn("2 (2.00 ~)", tables.matrix(rows, "delivered_mpps"))


class Runs(unittest.TestCase):
    def test_several_runs_are_shown_as_one(self):
        heads = [{"command": command, "host": {"cpu": "x", "load": load}, "notes": ["n"]}
                 for command, load in (("a", "1"), ("b", "2"))]
        self.assertEqual(runner.merged(heads),
                         {"command": "a; b", "notes": ["n"], "host": {"cpu": "x", "load": "1; 2"}})


class Pages(unittest.TestCase):
    def test_page_is_whole_and_asks_nothing_of_the_network(self):
        rows = [row("tc-bpf", [1, 2, 3]), row("<shuck>", [2, 3, 4], [2, 1.5, 1.33], verdict="too few pairs"),
                {**row("tc-bpf", [9, 9, 9]), "figure": "median_us", "distribution": [[0, 5.0], [50, 9.0], [99, 30.0], [100, 80.0]]}]
        text = page.render({"host": {"cpu": "a & b"}, "command": "tools/bench", "notes": ["a note"]}, rows, {"tc-bpf": "x"})
        self.assertNotIn("http", text.replace("http://www.w3.org", ""))
        self.assertNotIn("<shuck>", text)
        for part in text.split("<svg")[1:]:
            xml.etree.ElementTree.fromstring("<svg" + part.split("</svg>")[0] + "</svg>")
        self.assertEqual(text.count("<svg"), 3)


if __name__ == "__main__":
    unittest.main()
