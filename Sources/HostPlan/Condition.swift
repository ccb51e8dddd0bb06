// Something of a host that decides whether traffic passes, and how fast: what doctor judges.

public struct Condition: Sendable {
    /// By which lines, documents and tests name it.
    public let name: String
    /// What is compared, in one sentence.
    public let summary: String
    /// Names the condition in each line.
    let judge: @Sendable (Examination) -> [Line]

    init(_ name: String, _ summary: String, judge: @escaping @Sendable (Examination) -> [Line]) {
        self.name = name
        self.summary = summary
        self.judge = judge
    }

    public func diagnoses(_ examination: Examination) -> [Diagnosis] {
        let gaps = examination.details.gaps.filter { $0.conditions.contains(name) }.map {
            Diagnosis(
                condition: name, level: .unread, fact: $0.text, effect: "This condition is not judged.",
                command: $0.command)
        }
        // Nothing is fine that was read in part.
        return gaps
            + judge(examination).filter { gaps.isEmpty || $0.level != .ok }.map {
                Diagnosis(
                    condition: name, level: $0.level, fact: $0.fact, effect: $0.effect, command: $0.command)
            }
    }
}

extension Condition {
    /// A diagnosis without its condition.
    struct Line {
        var level: Diagnosis.Level
        var fact: String
        var effect: String?
        var command: String?

        static func ok(_ fact: String) -> Line { Line(level: .ok, fact: fact) }

        static func warning(_ fact: String, effect: String, command: String? = nil) -> Line {
            Line(level: .warning, fact: fact, effect: effect, command: command)
        }

        static func problem(_ fact: String, effect: String, command: String? = nil) -> Line {
            Line(level: .problem, fact: fact, effect: effect, command: command)
        }
    }
}
