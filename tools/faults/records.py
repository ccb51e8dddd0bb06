# Results that add up over several runs, by the revision that they were measured at, and the tables of the docs.
import json
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent


def revision():
    command = ["git", "-C", ROOT, "describe", "--always", "--dirty", "--abbrev=12"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def read(path):
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def append(path, row):
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a") as file:
        file.write(json.dumps(row) + "\n")


def write_table(name, table):
    """Replaces what stands between <!-- NAME --> and the next <!-- end --> of docs/reliability.md."""
    path, begin, end = ROOT / "docs/reliability.md", f"<!-- {name} -->\n", "<!-- end -->"
    head, rest = path.read_text().split(begin)
    path.write_text(head + begin + table + rest[rest.index(end):])
