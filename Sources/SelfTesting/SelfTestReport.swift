// SelfTestReport and SelfTestResult, what `shuck selftest` prints.

/// What came of one test.
public struct SelfTestResult: Encodable, Sendable {
    public enum Outcome: String, Encodable, Sendable { case ok, failed, skipped }

    public let name: String
    public let outcome: Outcome
    public let seconds: Double
    public let checks: Int
    /// One sentence each.
    public let failures: [String]
    /// Why it was skipped.
    public let reason: String?

    public init(name: String, seconds: Double, checks: Int, failures: [String]) {
        self.name = name
        outcome = failures.isEmpty ? .ok : .failed
        self.seconds = (seconds * 1000).rounded() / 1000
        self.checks = checks
        self.failures = failures
        reason = nil
    }

    public init(name: String, skipped reason: String) {
        self.name = name
        outcome = .skipped
        (seconds, checks, failures) = (0, 0, [])
        self.reason = reason
    }
}

public struct SelfTestReport: Encodable, Sendable {
    public let version: String
    public let kernel: String
    /// How shuck writes to its device here, and what keeps the kernel from answering.
    public let engine: String
    public let claim: String
    /// Where shuck runs on a fallback here.
    public let notes: [String]
    public private(set) var tests: [SelfTestResult] = []
    public private(set) var seconds = 0.0
    /// A signal ended it before the last test.
    public var interrupted = false

    public init(version: String, kernel: String, engine: String, claim: String, notes: [String]) {
        self.version = version
        self.kernel = kernel
        self.engine = engine
        self.claim = claim
        self.notes = notes
    }

    public mutating func add(_ result: SelfTestResult) {
        tests.append(result)
        seconds = ((seconds + result.seconds) * 1000).rounded() / 1000
    }

    public var isGood: Bool { !interrupted && tests.allSatisfy { $0.outcome != .failed } }

    /// The last line: how many tests and checks, and why which were skipped.
    public var summary: String {
        func count(_ number: Int, _ noun: String) -> String { "\(number) \(noun)\(number == 1 ? "" : "s")" }
        let skipped = tests.filter { $0.outcome == .skipped }
        let reasons = Set(skipped.compactMap(\.reason)).sorted().joined(separator: "; ")
        let failed = tests.count { $0.outcome == .failed }
        return [
            count(tests.count, "test"), count(tests.reduce(0) { $0 + $1.checks }, "check"),
            "\(skipped.count) skipped" + (skipped.isEmpty ? "" : " (\(reasons))"),
        ].joined(separator: ", ") + (failed > 0 ? ", \(failed) failed" : "")
            + (interrupted ? "; interrupted" : "")
    }
}
