// The problems found so far, each with its place.

final class Report {
    let fileNames: [String]
    private var findings: [(position: Position, problem: Problem)] = []
    /// A file could not be read as YAML, so that a missing key may stand in the unread part.
    var isPartial = false

    init(fileNames: [String]) { self.fileNames = fileNames }

    var hasErrors: Bool { findings.contains { $0.problem.severity == .error } }

    func error(_ position: Position, _ message: String) { add(position, .error, message) }

    func warning(_ position: Position, _ message: String) { add(position, .warning, message) }

    private func add(_ position: Position, _ severity: Problem.Severity, _ message: String) {
        let problem = Problem(
            file: fileNames[position.file], line: position.line, column: position.column,
            severity: severity, message: message)
        findings.append((position, problem))
    }

    /// `FILE:LINE:COLUMN`, to point at a second place in a message.
    func place(_ position: Position) -> String {
        "\(fileNames[position.file]):\(position.line):\(position.column)"
    }

    /// Every problem once, in the order of the files and of the lines in them.
    var problems: [Problem] {
        var seen: Set<Problem> = []
        // The sort is stable: of one place, the problem that was found first comes first.
        return findings.sorted { $0.position < $1.position }.map(\.problem)
            .filter { seen.insert($0).inserted }
    }
}
