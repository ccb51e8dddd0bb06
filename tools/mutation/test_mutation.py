# Tests the choice of changes, how one file holds all changes, and that known.txt matches the present code.
import glob
import os
import subprocess
import sys
import tempfile
import time
import unittest

import group
import schema
import source

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
PROGRAM = """\
enum Colour { case red, green }
enum Level: Int {
    case low = 3
}

struct Box {
    var width = 4
    init(width: Int) {
        self.width = width
    }

    func fits(_ other: Box, in colour: Colour) -> Bool {
        precondition(other.width > 0)
        guard other.width <= width, colour == .red else { return false }
        var left = width
        left -= 1
        switch left {
        case 7: return left & 0x0f != 0
        default: break
        }
        return min(left, 9) >= 2
            && other.width < width
    }
}
"""


def changes(text):
    siblings = source.enum_cases([text])
    return [(mutant.line, mutant.change) for site in source.find("a.swift", text, siblings) for mutant in site.mutants]


class PlacesTests(unittest.TestCase):
    def test_what_is_changed(self):
        found = changes(PROGRAM)
        for line, change in [
                (7, "4 → 5"), (14, "<= → <"), (14, "other.width <= width → true"), (14, ".red → .green"),
                (14, "false → true"), (16, "left -= 1 → removed"), (16, "-= → +="), (18, "& → |"), (18, "!= → =="),
                (18, "0x0f → 0x0e"), (21, "min → max"), (21, "9 → 36"), (22, "&& → ||")]:
            self.assertIn((line, change), found)

    def test_what_is_left_alone(self):
        lines = {line for line, _ in changes(PROGRAM)}
        # Raw values, what an initializer must set, and what only stops a wrong program.
        self.assertFalse(lines & {1, 3, 9, 13})
        self.assertNotIn((18, "7 → 8"), changes(PROGRAM))
        loop = "func f() {\n    while index < 9 {\n        index += 1\n        count += 1\n    }\n}\n"
        self.assertEqual({line for line, _ in changes(loop)}, {2, 4})
        self.assertEqual(changes('let text = "1 + 2 \\(a + 3)"  // 4 < 5\n'), [])

    def test_names_of_mutants_survive_moves(self):
        def keys(text):
            return {mutant.key for site in source.find("a.swift", text, {}) for mutant in site.mutants}
        self.assertEqual(keys(PROGRAM), keys("\n\n" + PROGRAM))

    def test_same_lines_are_told_apart(self):
        text = "func f() {\n    x += 1\n    x += 1\n}\n"
        numbers = [mutant.id for site in source.find("a.swift", text, {}) for mutant in site.mutants]
        self.assertEqual(len(numbers), len(set(numbers)))


class SchemaTests(unittest.TestCase):
    def test_lines_stay_where_they_are(self):
        sites = source.find("a.swift", PROGRAM, source.enum_cases([PROGRAM]))
        whole, declared = schema.write(PROGRAM, sites)
        lines = whole.split("\n")
        self.assertEqual(len(lines), len(PROGRAM.split("\n")) + len(declared))
        for site in sites:
            number = site.mutants[0].id
            name = schema.glyphs(number) if site.kind == "operator" else str(number)
            self.assertIn(name, lines[site.line - 1])
        for line, site in declared.items():
            self.assertIn(schema.glyphs(site.mutants[0].id), lines[line - 1])

    @unittest.skipUnless(any(os.path.exists(os.path.join(path, "swiftc")) for path in os.environ["PATH"].split(":")),
                         "there is no swiftc on the PATH")
    def test_each_mutant_can_be_chosen(self):
        text = "func f(_ a: Int) -> Bool {\n    var b = a\n    b += 2\n    return b <= 5 && a != 0\n}\n" + \
            "print((-1..<6).map { f($0) ? 1 : 0 })\n"
        sites = source.find("main.swift", text, {})
        whole, _ = schema.write(text, sites)
        numbers = {
            (mutant.line, mutant.change): mutant.id for site in sites for mutant in site.mutants}
        with tempfile.TemporaryDirectory() as directory:
            for name, content in (("main.swift", whole), ("MutantSupport.swift", schema.SUPPORT)):
                with open(os.path.join(directory, name), "w", encoding="utf-8") as file:
                    file.write(content)
            subprocess.run(
                ["swiftc", "main.swift", "MutantSupport.swift", "-o", "program"], cwd=directory, check=True,
                stderr=subprocess.DEVNULL)

            def run(number):
                environment = dict(os.environ, SHUCK_MUTANT=str(number))
                return subprocess.run(
                    ["./program"], cwd=directory, env=environment, capture_output=True, text=True).stdout.strip()
            self.assertEqual(run(0), "[1, 0, 1, 1, 1, 0, 0]")
            self.assertEqual(run(numbers[(4, "<= → <")]), "[1, 0, 1, 1, 0, 0, 0]")
            self.assertEqual(run(numbers[(4, "&& → ||")]), "[1, 1, 1, 1, 1, 1, 1]")
            self.assertEqual(run(numbers[(3, "b += 2 → removed")]), "[1, 0, 1, 1, 1, 1, 1]")
            self.assertEqual(run(numbers[(3, "+= → -=")]), "[1, 0, 1, 1, 1, 1, 1]")
            self.assertEqual(run(numbers[(4, "5 → 6")]), "[1, 0, 1, 1, 1, 1, 0]")


class GroupTests(unittest.TestCase):
    @staticmethod
    def runs(process):
        try:
            with open(f"/proc/{process}/stat", encoding="utf-8") as file:
                return file.read().split()[2] != "Z"
        except FileNotFoundError:
            return False

    def test_what_a_command_leaves_is_killed_with_it(self):
        for after, status in [("exit 3", 3), ("kill -9 $$", -9), ("sleep 60", None)]:
            options = {"stdout": subprocess.PIPE, "text": True}
            with group.Group(["sh", "-c", f"sleep 60 & echo $!; {after}"], **options) as running:
                left = int(running.child.stdout.readline())
                for _ in range(100):
                    if running.status() == status:
                        break
                    time.sleep(0.02)
                self.assertEqual(running.status(), status)
                os.kill(left, 0)
            running.child.stdout.close()
            for _ in range(100):
                if not self.runs(left):
                    break
                time.sleep(0.02)
            self.assertFalse(self.runs(left), after)


class KnownTests(unittest.TestCase):
    def test_known_mutants_are_mutants_of_the_code(self):
        known = source.known(os.path.join(ROOT, "tools", "mutation", "known.txt"))
        texts = {}
        for name in sorted(glob.glob("Sources/*/*.swift", root_dir=ROOT)):
            with open(os.path.join(ROOT, name), encoding="utf-8") as file:
                texts[name] = file.read()
        siblings = source.enum_cases(texts.values())
        mutants = set()
        for name in {file for file, _, _ in known}:
            self.assertTrue(name in texts, f"known.txt: there is no {name}")
            for site in source.find(name, texts[name], siblings):
                mutants |= {(mutant.file, mutant.text, mutant.change) for mutant in site.mutants}
        for entry in known:
            self.assertTrue(entry in mutants, f"known.txt speaks of what is no longer there: {entry}")


if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
    unittest.main()
