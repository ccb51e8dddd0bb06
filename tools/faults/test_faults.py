# Tests what a long run calls a finding, and which losses belong to a fault.
#   python3 -B -m unittest discover -s tools/faults
import os
import unittest

import lab
import scenarios
import soaking


def trial(began, ended, **more):
    return scenarios.Trial(int(began * 1e9), int(ended * 1e9), None, {}, **more)


def result(losses, **more):
    return {"start_ns": 0, "sent": 1000, "lost": sum(w[2] for w in losses), "twice": 0, "late": 0, "altered": 0,
            "longest_gap_ms": 1.0, "losses": losses, **more}


class OutcomeTests(unittest.TestCase):
    def test_losses_belong_to_the_fault_that_they_follow(self):
        lost = result([[1.0, 1.1, 5], [9.97, 10.2, 7], [12.5, 12.6, 3], [20, 20, 1]])
        outcome = trial(10, 12).outcome(lost)
        self.assertEqual((outcome.lost, outcome.stray), (10, 6))
        self.assertAlmostEqual(outcome.recovery_ms, 600)
        self.assertEqual(trial(10, 11).outcome(lost).lost, 7)
        self.assertEqual(trial(10, 11, closed=15 * 10**9).outcome(lost).lost, 10)

    def test_a_fault_is_judged_by_its_row(self):
        outcome = trial(10, 11, counted=7, ring=7).outcome(result([[10.1, 10.2, 7]]))
        self.assertEqual(scenarios.Stopped().judge(outcome), [])
        self.assertEqual(len(scenarios.Reload().judge(outcome)), 1)
        self.assertEqual(scenarios.Reload().judge(outcome, is_quiet=False), [])
        outcome.counted = 6
        self.assertEqual(len(scenarios.Stopped().judge(outcome)), 1)

    def test_names_are_unique(self):
        names = [fault.name for fault in scenarios.FAULTS] + [row[0] for row in scenarios.UNTRIED]
        self.assertEqual(len(names), len(set(names)))


class SoakTests(unittest.TestCase):
    def test_each_round_has_each_fault_in_an_order_of_the_seed(self):
        faults = list("abcdefgh")
        orders = [[soaking.turn(seed, start + i, faults) for i in range(8)] for seed in (1, 2) for start in (0, 8)]
        self.assertTrue(all(sorted(order) == faults for order in orders))
        self.assertEqual(len({tuple(order) for order in orders}), 4)
        self.assertEqual(orders[0], [soaking.turn(1, i, faults) for i in range(8)])

    def test_losses_outside_of_faults_are_findings(self):
        lost = result([[1.0, 1.1, 5], [10.1, 10.2, 7]])
        for starved, findings in ((0, 1), (4, 1), (5, 0), (9, 0)):
            *counts, found = soaking.judge_stream(lost, [trial(10, 11)], starved)
            self.assertEqual((counts, len(found)), ([7, 5, min(starved, 5)], findings))

    def test_no_more_is_excused_than_came_while_the_worker_waited(self):
        for ring, waited, excused in ((0, 500, 0), (700, 0, 0), (700, 5, 500), (300, 5, 300)):
            marks = soaking.Mark(0, 10, 20), soaking.Mark(5, 10 + ring, 20 + waited)
            self.assertEqual(soaking.starved(*marks, 100_000), excused)

    def test_what_comes_twice_late_or_altered_is_a_finding(self):
        for what in ("twice", "late", "altered"):
            self.assertEqual(soaking.judge_stream(result([], **{what: 1}), [], 0)[3], [f"1 {what}"])

    def test_growth_is_that_of_the_medians(self):
        samples = [soaking.Sample(10 * i, 50_000 + (900 if i < 5 else 0), 25, 4) for i in range(35)]
        self.assertEqual(soaking.growth(samples, 5), (0, 0))
        self.assertIsNone(soaking.growth(samples[:13], 5))
        for i, each in enumerate(samples):
            each.resident += i
        self.assertEqual(soaking.growth(samples, 5), (20, 360))

    def test_a_descriptor_that_stays_is_a_finding(self):
        resources = soaking.Resources([os.getpid()])
        resources.settle("nothing")
        before, soaking.SETTLE_S = soaking.SETTLE_S, 0.05
        try:
            with open("/dev/null"):
                with self.assertRaises(soaking.Finding) as caught:
                    resources.settle("a fault")
            self.assertIn("/dev/null", str(caught.exception))
            resources.settle("nothing")
        finally:
            soaking.SETTLE_S = before

    def test_a_finding_ends_a_run_as_a_problem_does(self):
        self.assertTrue(issubclass(soaking.Finding, lab.Problem))


if __name__ == "__main__":
    unittest.main()
