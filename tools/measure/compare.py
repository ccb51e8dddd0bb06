# --against: compares two runs, figure by figure, with a permutation test.
import math
import statistics

from figures import number, permutation_p

P_MOST, CHANGE_LEAST = 0.01, 0.02


def compared(before_rows, after_rows):
    """A comparison per figure that both runs have.

    Compares the ratios to the baseline, because two runs may have had different hosts or loads; exact figures as they
    are.
    """
    def keyed(rows):
        return {(row["point"], row["peer"], row["figure"]): row for row in rows if row.get("verdict") != "noise"}
    before, after = keyed(before_rows), keyed(after_rows)
    results = []
    for key, new in after.items():
        if key not in before:
            continue
        old = before[key]
        what = "ratios" if old.get("ratios") and new.get("ratios") else "values"
        results.append({"key": key, "what": what, **judged(old[what], new[what], new["more_is_better"],
                                                           exact=new["case"] == "gates")})
    return results


def judged(before, after, more_is_better, exact):
    old, new = statistics.median(before), statistics.median(after)
    change = new / old - 1 if old else 0.0 if new == old else math.inf
    p = None if exact else permutation_p(before, after)
    if abs(change) < (0.0 if exact else CHANGE_LEAST) or change == 0:
        result = "same"
    elif exact or p <= P_MOST:
        result = "better" if (change > 0) == more_is_better else "worse"
    else:
        reachable = 2 / math.comb(len(before) + len(after), len(before))
        result = "not beyond noise" if reachable <= P_MOST else "too few pairs"
    return {"before": old, "after": new, "change": change, "p": p, "result": result}


def report(before, rows):
    """Prints the comparison; True if anything got worse."""
    results = compared(before, rows)
    print(f"{'point':36} {'figure':28} {'peer':17} {'before':>9} {'after':>9} {'change':>8} {'p':>7}")
    for r in results:
        point, peer, figure = r["key"]
        p = "exact" if r["p"] is None else f"{r['p']:.4f}"
        mark = " (of the ratios)" if r["what"] == "ratios" else ""
        print(f"{point[:36]:36} {figure:28} {peer:17} {number(r['before']):>9} {number(r['after']):>9} "
            f"{100 * r['change']:+7.1f}% {p:>7}  {r['result']}{mark}")
    timed = sum(r["p"] is not None for r in results)
    print(f"# {len(results)} figures; of {timed} timed ones some {P_MOST * timed:.1f} would be called by chance")
    return any(r["result"] == "worse" for r in results)
