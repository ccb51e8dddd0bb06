// What the log has told of findings.

import HostPlan

/// Which findings the log has told of, so that each is told of once when it comes and once when
/// it goes.
struct ToldFindings {
    private struct Key: Hashable {
        let what: Finding.What
        let subject: String
    }
    private var texts: [Key: String] = [:]

    /// - Returns: those that came, or that say something else than before, in order; and those that
    ///   went, as `what subject`.
    mutating func update(_ now: [Finding]) -> (came: [Finding], went: [String]) {
        var current: [Key: String] = [:]
        var came: [Finding] = []
        for one in now {
            let key = Key(what: one.what, subject: one.subject)
            guard current[key] == nil else { continue }
            current[key] = one.description
            if texts[key] != one.description { came.append(one) }
        }
        let went = texts.keys.filter { current[$0] == nil }.map { "\($0.what.rawValue) \($0.subject)" }
        texts = current
        return (came, went.sorted())
    }
}
