# Finds the places of a Swift file that can be changed, and the possible changes. This is not a parser: tokens, brackets
# and the house's layout (one statement per line, blanks around binary operators) are enough, because changes that do not
# compile are dropped later.
import hashlib
import re

TOKEN = re.compile(
    r"""
    (?P<space>\s+) | (?P<comment>//[^\n]*|/\*.*?\*/) |
    (?P<string>\#?\"\"\".*?\"\"\"\#?|"(?:\\\((?:[^()"]|\([^()]*\)|"[^"]*")*\)|\\.|[^"\\\n])*") |
    (?P<directive>\#(?:if|elseif|else|endif)[^\n]*) |
    (?P<word>`?[A-Za-z_][A-Za-z0-9_]*`?) |
    (?P<number>0x[0-9a-fA-F_]+|0b[01_]+|[0-9][0-9_]*(?:\.[0-9][0-9_]*)?) |
    (?P<bracket>[()\[\]{}]) | (?P<comma>[,;]) |
    (?P<operator>[-+*/%<>=!&|^~?.:]+) | (?P<other>[@$\#\\\\].|.)
    """,
    re.VERBOSE | re.DOTALL)

COMPARISONS = {"<": ["<=", ">="], "<=": ["<", ">"], ">": [">=", "<="], ">=": [">", "<"], "==": ["!="], "!=": ["=="]}
OPERATORS = dict(COMPARISONS) | {
    "+": ["-"], "-": ["+"], "&+": ["&-"], "&-": ["&+"], "&": ["|"], "|": ["&"], "^": ["|"], "<<": [">>"], ">>": ["<<"],
    "&<<": ["&>>"], "&>>": ["&<<"], "&&": ["||"], "||": ["&&"],
    "+=": ["-="], "-=": ["+="], "&+=": ["&-="], "&-=": ["&+="], "|=": ["&="]}
KEYWORDS = set(
    """let var func init deinit subscript if guard else for while repeat switch case default break continue return throw
    defer do catch import struct class enum extension protocol actor typealias public private fileprivate internal package
    static final override mutating nonmutating convenience lazy weak unowned indirect associatedtype where in is as fallthrough
    infix prefix postfix operator precedencegroup try await""".split())
TYPES = {"struct", "class", "enum", "extension", "protocol", "actor"}
# What only stops a wrong program, gives memory back or tells: no test can see that it is gone.
UNSEEN = re.compile(r"(precondition|assert|assertionFailure|preconditionFailure)\(|.*\bdeallocate\(\)$|log(ger)?\.|print\(")


class Token:
    __slots__ = ("kind", "text", "start", "end", "line", "first", "spaced", "depth", "brace")

    def __init__(self, kind, text, start, end, line, first):
        self.kind, self.text, self.start, self.end, self.line, self.first = kind, text, start, end, line, first
        self.spaced = False


class Brace:
    """One `{`: what it opens, and the words in front of it."""

    def __init__(self, words, parent):
        self.words, self.parent = words, parent
        self.is_type = any(word in TYPES for word in words) and "func" not in words
        self.is_enum = self.is_type and "enum" in words

    @property
    def gives_a_value(self):
        head = next((word for word in self.words if word in KEYWORDS and word not in ("public", "private", "static")), "")
        return head not in ("if", "guard", "else", "for", "while", "defer", "do") and (
            "->" in self.words or "func" not in self.words)


class Mutant:
    """One change. `key` names it whatever the lines above it become."""

    def __init__(self, file, line, text, before, after, number, occurrence):
        self.file, self.line, self.text, self.before, self.after = file, line, text, before, after
        self.occurrence = occurrence
        self.change = f"{before} → {after}" + (f" #{occurrence}" if occurrence > 1 else "")
        self.key = "\n".join([file, text, self.change] + ([str(number)] if number > 1 else []))
        self.id = int(hashlib.sha256(self.key.encode()).hexdigest()[:12], 16)

    def __str__(self):
        return f"{self.file}:{self.line}: {self.change}   in: {self.text}"


class Site:
    """A place and its mutants. `start`…`end` are offsets in the file; `kind` says how it is written."""

    def __init__(self, kind, start, end, line, mutants):
        self.kind, self.start, self.end, self.line, self.mutants = kind, start, end, line, mutants


def enum_cases(texts):
    """Names of cases without values → the next case of the same enum; names in two enums, and special ones, are left out."""
    siblings, doubtful = {}, {"none", "some", "default", "self", "init"}
    for text in texts:
        # Cases stand before whatever has braces of its own.
        for body in re.findall(r"\benum \w+[^{\n]*\{([^{}]*)", text):
            names = []
            for line in re.findall(r"^\s*case ((?:\w+(?: = \S+)?(?:, *)?)+) *$", body, re.MULTILINE):
                names += [part.split("=")[0].strip() for part in line.split(",") if part.strip()]
            for index, name in enumerate(names):
                other = names[(index + 1) % len(names)]
                if other in ("none", "some") and len(names) > 2:
                    other = names[(index + 2) % len(names)]
                if name in siblings and siblings[name] != other:
                    doubtful.add(name)
                if other != name:
                    siblings[name] = other
    return {name: other for name, other in siblings.items() if name not in doubtful and other not in doubtful}


def tokens(text):
    found, line, fresh = [], 1, True
    for match in TOKEN.finditer(text):
        kind, value = match.lastgroup, match[0]
        if kind not in ("space", "comment"):
            token = Token(kind, value, match.start(), match.end(), line, fresh)
            before, after = text[match.start() - 1:match.start()], text[match.end():match.end() + 1]
            token.spaced = before.isspace() and after.isspace()
            found.append(token)
            fresh = False
        line += value.count("\n")
        fresh = fresh or "\n" in value
    place(found)
    return found


def place(found):
    """Notes for each token its depth of brackets within the innermost brace, and that brace."""
    stack, words = [Brace(["struct"], None)], []
    depths = [0]
    for token in found:
        if token.text in ("}",):
            if len(stack) > 1:
                stack.pop()
                depths.pop()
            words = []
        elif token.text in (")", "]"):
            depths[-1] -= 1
        token.depth, token.brace = depths[-1], stack[-1]
        if token.text == "{":
            stack.append(Brace(words, stack[-1]))
            depths.append(0)
            words = []
        elif token.text in ("(", "["):
            depths[-1] += 1
        elif token.depth == 0:
            if token.first and token.text not in ("->", "where", ")", "]") and token.kind != "operator":
                words = []
            words.append(token.text)


class Finder:
    def __init__(self, file, text, siblings):
        self.file, self.text, self.siblings = file, text, siblings
        self.lines = text.split("\n")
        self.tokens = tokens(text)
        self.sites, self.counts, self.seen = [], {}, {}
        self.closed = self.closed_tokens()

    def closed_tokens(self):
        """Tokens of patterns, attributes, raw values and of what is not to be seen: not to be changed."""
        closed, index = set(), 0
        while index < len(self.tokens):
            token = self.tokens[index]
            if token.text == "case":
                index = self.close_case(index, closed)
            elif token.text.startswith("@") or token.kind == "directive":
                closed.add(index)
            elif token.text == "import" or (token.text == "func" and self.tokens[index + 1].kind == "operator"):
                closed.update((index, index + 1))
            elif token.first and self.is_step(token):
                closed.update(
                    place for place, other in enumerate(self.tokens[:index + 12]) if other.line == token.line)
            elif token.first and UNSEEN.match(self.lines[token.line - 1].strip()):
                depth, brace = token.depth, token.brace
                closed.add(index)
                while index + 1 < len(self.tokens) and not (
                        self.tokens[index + 1].first and self.tokens[index + 1].depth == depth
                        and self.tokens[index + 1].brace is brace) and self.tokens[index + 1].text != "}":
                    index += 1
                    closed.add(index)
            index += 1
        return closed

    def is_step(self, token):
        """Whether a loop waits for it: without it there is no end, which costs minutes and tells nothing."""
        step = re.fullmatch(r"(\w+) (&?[+-]=) (\w+|\(.*\))", self.lines[token.line - 1].strip())
        around = self.lines[max(0, token.line - 40):token.line]
        return bool(step) and any(re.search(rf"\bwhile\b.*\b{step[1]}\b", line) for line in around)

    def close_case(self, index, closed):
        case = self.tokens[index]
        ends = {":"} if case.first and not case.brace.is_enum else {"=", "else"}
        while index + 1 < len(self.tokens):
            after = self.tokens[index + 1]
            if after.text in ends and after.depth == case.depth and after.brace is case.brace:
                break
            if case.brace.is_enum and after.first and self.tokens[index].text != ",":
                break
            if after.text == "{" and ends != {":"}:
                break
            closed.add(index)
            index += 1
        closed.add(index)
        return index

    def find(self):
        for index, token in enumerate(self.tokens):
            if token.text in ("guard", "if", "while") and token.kind == "word":
                self.conditions(index)
            if index in self.closed:
                continue
            if token.kind == "operator" and token.spaced and token.text in OPERATORS:
                after = self.tokens[index + 1].text
                if after not in ("nil", "[", "") and not token.brace.is_type and self.tokens[index - 1].text != "func":
                    self.add("operator", token, OPERATORS[token.text])
            elif token.kind == "number" and "." not in token.text:
                self.number(index)
            elif token.text in ("true", "false"):
                if not (token.text == "true" and self.tokens[index - 1].text == "while"):
                    self.add("value", token, ["false" if token.text == "true" else "true"])
            elif token.text in ("min", "max") and self.tokens[index + 1].text == "(" and (
                    self.tokens[index - 1].text not in (".", "func")):
                self.add("call", token, ["max" if token.text == "min" else "min"])
            elif token.text == "." and index + 1 < len(self.tokens):
                self.enum_case(index)
            if token.first and index not in self.closed:
                self.statement(index)
        return self.sites

    def add(self, kind, token, afters, end=None, before=None):
        """A site of the token; `before` is what a reader sees of it."""
        before = before or token.text
        text = self.lines[token.line - 1].strip()
        once = (text, before)
        occurrence = self.counts.setdefault((token.line, before), 0) + 1
        self.counts[(token.line, before)] = occurrence
        same = self.seen.setdefault(once, [])
        if token.line not in same:
            same.append(token.line)
        mutants = [
            Mutant(self.file, token.line, text, before, after, same.index(token.line) + 1, occurrence) for after in afters]
        self.sites.append(Site(kind, token.start, end or token.end, token.line, mutants))

    def number(self, index):
        token, before = self.tokens[index], self.tokens[index - 1]
        if before.text.endswith(".") or before.text in ("$", "#") or token.brace.is_enum and before.text == "=":
            return
        value = int(token.text.replace("_", ""), 0)
        if token.text.startswith(("0x", "0b")):
            afters = [value ^ 1, value >> 1 if value > 3 else value ^ 2]
            width = len(token.text) - 2
            afters = [f"0x{after:0{width}x}" if token.text[1] == "x" else f"0b{after:0{width}b}" for after in afters]
        elif value == 0:
            afters = ["1"]
        elif value < 8:
            afters = [str(value + 1), str(value - 1)]
        else:
            afters = [str(value + 1), str(value - 1), str(value * 4)]
        self.add("value", token, afters)

    def enum_case(self, index):
        dot, name = self.tokens[index], self.tokens[index + 1]
        if name.start != dot.end or name.text not in self.siblings:
            return
        before = self.text[dot.start - 1]
        if not (before.isspace() or before in "([,:"):
            return
        if self.text[name.end:name.end + 1] in ("(", "."):
            return
        self.add("value", dot, ["." + self.siblings[name.text]], end=name.end, before="." + name.text)

    def conditions(self, index):
        """The clauses of if, guard and while, each on its own."""
        head = self.tokens[index]
        if index in self.closed or head.brace.is_type:
            return
        start = index + 1
        ends = ("else",) if head.text == "guard" else ("{",)
        first = start
        for place in range(start, len(self.tokens)):
            token = self.tokens[place]
            is_end = token.text in ends and token.depth == head.depth and token.brace is head.brace
            is_comma = token.text == "," and token.depth == head.depth and token.brace is head.brace
            if is_end or is_comma:
                self.clause(head.text, first, place - 1)
                first = place + 1
            if is_end:
                return
            if token.text == "{" and head.text != "guard":
                return

    def clause(self, head, first, last):
        token, end = self.tokens[first], self.tokens[last]
        if token.text in ("let", "var", "case", "try") or token.text.startswith("#") or token.text == "true":
            return
        # One comparison is turned around as an operator.
        has_operator = any(self.tokens[place].spaced for place in range(first, last + 1))
        afters = {"guard": ["true", "negated"], "if": ["false", "negated"], "while": ["false"]}[head]
        afters = afters[:1] if has_operator else afters
        shown = " ".join(self.text[token.start:end.end].split())
        shown = shown if len(shown) <= 60 else shown[:57] + "…"
        self.add("condition", token, afters, end=end.end, before=shown)

    def statement(self, index):
        token = self.tokens[index]
        if token.kind != "word" or token.text in KEYWORDS or token.brace.is_type or token.depth != 0:
            return
        before = self.tokens[index - 1]
        if before.text not in ("{", "}", ")", "]", ":") and before.kind not in ("word", "number", "string"):
            return
        if before.text in ("return", "in", "throw", "try") or before.text == ":" and index - 1 not in self.closed:
            return
        end = self.statement_end(index)
        if end is None:
            return
        words = self.tokens[index:end + 1]
        if token.text in ("self", "super") and words[1:3] and words[2].text == "init":
            return
        is_assignment = any(
            word.depth == 0 and word.brace is token.brace and word.spaced and word.text.endswith("=")
            and word.text not in COMPARISONS for word in words)
        is_call = words[-1].text == ")" and not is_assignment and not any(
            word.depth == 0 and word.brace is token.brace and word.spaced for word in words)
        alone = before.text == "{" and self.tokens[end + 1].text == "}"
        if is_assignment and self.must_be_set(token):
            return
        if not (is_assignment or is_call) or alone and not is_assignment and token.brace.gives_a_value:
            return
        shown = " ".join(self.text[token.start:words[-1].end].split())
        shown = shown if len(shown) <= 60 else shown[:57] + "…"
        self.add("statement", token, ["removed"], end=words[-1].end, before=shown)

    def must_be_set(self, token):
        """Whether it may be the first value of what an initializer, or a `let` without one, waits for."""
        brace = token.brace
        while not brace.is_type and not {"func", "init"} & set(brace.words):
            brace = brace.parent
        if "init" in brace.words:
            return True
        waits = re.compile(rf"\b(let|var) (\w+, )*{re.escape(token.text)}(, \w+)*: [^={{]*$")
        return any(waits.search(line) for line in self.lines[max(0, token.line - 30):token.line - 1])

    def statement_end(self, index):
        """The last token of the statement; None where it is not one of its own lines."""
        token = self.tokens[index]
        for place in range(index, len(self.tokens) - 1):
            after = self.tokens[place + 1]
            if after.text == "}" and after.brace is token.brace.parent:
                return place
            if after.first and after.depth == 0 and after.brace is token.brace:
                if after.kind == "operator" or self.tokens[place].kind in ("operator", "comma"):
                    if not (after.text == "}" or after.kind != "operator" and self.tokens[place].spaced is False):
                        continue
                if after.text in ("else", "{", "?", "where"):
                    return None
                return place
        return None


def find(file, text, siblings):
    return Finder(file, text, siblings).find()


def known(path):
    """(file, line, change) → why it makes no difference."""
    with open(path, encoding="utf-8") as file:
        text = "".join(line for line in file if not line.startswith("#"))
    found = {}
    for block in re.split(r"\n\s*\n", text.strip()):
        lines = [line.strip() for line in block.splitlines()]
        if lines == [""] or not lines:
            continue
        if len(lines) < 4 or not lines[3].startswith("why: "):
            raise ValueError(f"{path}: a block is a file, a line of it, changes and \"why: …\", not {lines}")
        for change in lines[2].split(" ; "):
            found[(lines[0], lines[1], change.strip())] = " ".join(lines[3:])
    return found
