// Checks, what a test of `shuck selftest` looked at.

/// How much was looked at, and what was wrong.
struct Checks {
    private(set) var count = 0
    private(set) var failures: [String] = []

    mutating func expect(_ isGood: Bool, _ failure: @autoclosure () -> String) {
        count += 1
        if !isGood { failures.append(failure()) }
    }

    mutating func add(_ count: Int, failures: [String]) {
        self.count += count
        self.failures += failures
    }
}
