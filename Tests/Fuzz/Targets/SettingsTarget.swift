// Any text as configuration files: a configuration or an error, and what is accepted can be written.

import Forwarding
import Settings

public final class SettingsTarget: FuzzTarget {
    public init() {}

    /// The files stand one behind the other, parted by a byte that no text has.
    public func run(_ input: UnsafeRawBufferPointer) throws(Violation) {
        let files = input.split(separator: 0xff, maxSplits: 3, omittingEmptySubsequences: false)
            .enumerated().map { (name: "\($0)", text: String(decoding: $1, as: UTF8.self)) }
        let (configuration, problems) = Configuration.load(files: files)
        let hasError = problems.contains { $0.severity == .error }
        guard (configuration == nil) == hasError else {
            throw Violation("configuration and errors disagree: \(problems)")
        }
        guard problems.allSatisfy({ $0.line >= 1 && $0.column >= 1 }) else {
            throw Violation("a problem that is nowhere: \(problems)")
        }
        guard let configuration else { return }
        let again = Configuration.load(files: [(name: "again", text: configuration.yaml)])
        guard again.configuration == configuration else {
            throw Violation("written and read again it differs: \(again.problems)")
        }
        _ = PolicyTables(configuration.policy)
        _ = SynAckClamp.chains(configuration) { $0 == "eth0" ? 1500 : nil }
    }
}
