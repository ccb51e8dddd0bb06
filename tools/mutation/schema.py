# Writes all mutants of a file into that file: one build holds all mutants, and SHUCK_MUTANT selects one.
# Line numbers stay the same, so that the compiler's errors name them; operators are declared after the last line.
GLYPHS = "─│┌┐└┘├┤┬┴┼═║╒╓╔"
PRECEDENCES = {
    "Comparison": ("<", "<=", ">", ">=", "==", "!="), "Addition": ("+", "-", "&+", "&-", "|", "^"),
    "Multiplication": ("&",), "BitwiseShift": ("<<", ">>", "&<<", "&>>"), "LogicalConjunction": ("&&",),
    "LogicalDisjunction": ("||",), "Assignment": ("+=", "-=", "&+=", "&-=", "|=", "&=")}
PRECEDENCE = {operator: name for name, operators in PRECEDENCES.items() for operator in operators}

# One file per module. 0 is no mutant.
SUPPORT = """\
// Which mutant counts in this process.
import Glibc

@usableFromInline let mutantNumber = getenv("SHUCK_MUTANT").flatMap { Int(String(cString: $0)) } ?? 0
@inlinable @inline(__always) func mutantIs(_ number: Int) -> Bool { mutantNumber == number }
@inlinable @inline(__always) func mutantValue<T>(_ value: T, _ first: T, _ number: Int) -> T {
    mutantNumber == number ? first : value
}
@inlinable @inline(__always) func mutantValue<T>(
    _ value: T, _ first: T, _ number: Int, _ second: T, _ another: Int
) -> T { mutantNumber == number ? first : mutantNumber == another ? second : value }
@inlinable @inline(__always) func mutantValue<T>(
    _ value: T, _ first: T, _ number: Int, _ second: T, _ another: Int, _ third: T, _ last: Int
) -> T {
    mutantNumber == number ? first : mutantNumber == another ? second : mutantNumber == last ? third : value
}
@inlinable @inline(__always) func mutantCondition(
    _ value: Bool, always: Int = -1, never: Int = -1, negated: Int = -1
) -> Bool {
    mutantNumber == always ? true : mutantNumber == never ? false : mutantNumber == negated ? !value : value
}
@inlinable @inline(__always) func mutantMin<T: Comparable>(_ number: Int, _ one: T, _ other: T) -> T {
    mutantNumber == number ? max(one, other) : min(one, other)
}
@inlinable @inline(__always) func mutantMax<T: Comparable>(_ number: Int, _ one: T, _ other: T) -> T {
    mutantNumber == number ? min(one, other) : max(one, other)
}
"""


def glyphs(number):
    return "┃" + "".join(GLYPHS[int(digit, 16)] for digit in f"{number:012x}")


def chosen(mutants, before):
    """The expression that the mutant in force makes of `a` and `b`."""
    parts = [f"mutantIs({mutant.id}) ? a {mutant.after} b : " for mutant in mutants]
    return "".join(parts) + f"a {before} b"


def declaration(site):
    """What a binary operator that may be another one is declared as, in one line."""
    mutants, before = site.mutants, site.mutants[0].before
    name = glyphs(mutants[0].id)
    head = "@inlinable @inline(__always) func " + name
    group = PRECEDENCE[before]
    body = chosen(mutants, before)
    parts = [f"infix operator {name}: {group}Precedence"]
    if group == "Comparison":
        kind = "Equatable" if before in ("==", "!=") else "Comparable"
        parts.append(f"{head}<T: {kind}>(_ a: T, _ b: T) -> Bool {{ {body} }}")
    elif group.startswith("Logical"):
        lazy = f"mutantIs({mutants[0].id}) ? (try a {mutants[0].after} b()) : (try a {before} b())"
        parts.append(f"{head}(_ a: Bool, _ b: @autoclosure () throws -> Bool) rethrows -> Bool {{ {lazy} }}")
    elif group == "BitwiseShift":
        kind = "FixedWidthInteger" if before.startswith("&") else "BinaryInteger"
        parts.append(f"{head}<T: {kind}, U: BinaryInteger>(_ a: T, _ b: U) -> T {{ {body} }}")
    elif group == "Assignment":
        parts += assignments(head, mutants, before)
    elif before in ("&+", "&-"):
        parts.append(f"{head}<T: FixedWidthInteger>(_ a: T, _ b: T) -> T {{ {body} }}")
    elif before in ("|", "^", "&"):
        parts.append(f"{head}<T: BinaryInteger>(_ a: T, _ b: T) -> T {{ {body} }}")
    else:
        parts += sums(head, mutants, before, body)
    return "; ".join(parts)


def sums(head, mutants, before, body):
    yield f"{head}<T: AdditiveArithmetic>(_ a: T, _ b: T) -> T {{ {body} }}"
    yield f"{head}<P: _Pointer>(_ a: P, _ b: Int) -> P where P.Stride == Int {{ {body} }}"
    if before == "+":
        # A list has no other sign: the second part is left out.
        number = mutants[0].id
        yield (f"{head}<C: RangeReplaceableCollection, S: Sequence>(_ a: C, _ b: S) -> C where S.Element == C.Element "
               f"{{ mutantIs({number}) ? a : a + b }}")


def assignments(head, mutants, before):
    number = mutants[0].id
    body = f"{{ if mutantIs({number}) {{ a {mutants[0].after} b }} else {{ a {before} b }} }}"
    kind = {"+=": "AdditiveArithmetic", "-=": "AdditiveArithmetic", "|=": "BinaryInteger", "&=": "BinaryInteger"}.get(
        before, "FixedWidthInteger")
    yield f"{head}<T: {kind}>(_ a: inout T, _ b: T) {body}"
    if before in ("+=", "-="):
        yield f"{head}<P: _Pointer>(_ a: inout P, _ b: Int) where P.Stride == Int {body}"
    if before == "+=":
        yield (f"{head}<C: RangeReplaceableCollection, S: Sequence>(_ a: inout C, _ b: S) where S.Element == C.Element "
               f"{{ if !mutantIs({number}) {{ a += b }} }}")


def edits(site):
    """Texts to be put before and behind the place, or instead of it."""
    mutants, before = site.mutants, site.mutants[0].before
    if site.kind == "operator":
        return glyphs(mutants[0].id), None
    if site.kind == "value":
        changes = ", ".join(f"{mutant.after}, {mutant.id}" for mutant in mutants)
        return f"mutantValue({before}, {changes})", None
    if site.kind == "call":
        return f"mutant{before.capitalize()}", f"{mutants[0].id}, "
    if site.kind == "condition":
        words = {"true": "always", "false": "never", "negated": "negated"}
        order = sorted(mutants, key=lambda mutant: ("true", "false", "negated").index(mutant.after))
        numbers = ", ".join(f"{words[mutant.after]}: {mutant.id}" for mutant in order)
        return "mutantCondition((", f"), {numbers})"
    return f"if !mutantIs({mutants[0].id}) {{ ", " }"


def write(text, sites):
    """The file with all its mutants, and for each line behind its last one the site that is declared there."""
    changes = []
    for site in sites:
        first, second = edits(site)
        if site.kind in ("operator", "value"):
            changes.append((site.start, 2, 0, site.end, first))
        elif site.kind == "call":
            changes.append((site.start, 2, 0, site.end, first))
            changes.append((site.end + 1, 2, -1, site.end + 1, second))
        else:
            # What ends here comes before what begins here; outer places begin first and end last.
            changes.append((site.start, 1, -site.end, site.start, first))
            changes.append((site.end, 0, -site.start, site.end, second))
    parts, at = [], 0
    for start, _, _, end, new in sorted(changes):
        parts += [text[at:start], new]
        at = end
    parts.append(text[at:])
    whole = "".join(parts)
    declared = [site for site in sites if site.kind == "operator"]
    lines = whole.count("\n") + (0 if whole.endswith("\n") else 1)
    if not whole.endswith("\n"):
        whole += "\n"
    whole += "".join(declaration(site) + "\n" for site in declared)
    return whole, {lines + 1 + index: site for index, site in enumerate(declared)}
