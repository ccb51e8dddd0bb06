// shuck doctor: what of this host would stop or slow traffic, and the commands that mend it.

import ArgumentParser
import Daemon
import Foundation
import HostPlan
import LinuxIO
import Settings

struct DoctorCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "doctor",
        abstract: "Say what of this host would stop or slow traffic, and what to type.",
        discussion: """
            Each line is ok, warning, problem or unread: the fact, what it does to traffic, and the \
            command that mends it. It changes nothing and needs no running daemon. Without a \
            configuration file it assumes every tunnel, on the interfaces of the default routes. \
            Exit codes: 0 no problem, 1 a problem (or a bad configuration), 2 wrong usage, 3 no problem \
            was found, but something could not be read that the printed command makes readable.
            """)

    @Option(
        help: ArgumentHelp(
            "Configuration file (default: \(ConfigurationFiles.defaultPath), if it is there).",
            valueName: "file"))
    var config: String?

    @Option(help: ArgumentHelp("Judge the facts that another host saved, not this host.", valueName: "file"))
    var facts: String?

    @Option(
        help: ArgumentHelp(
            "Save this host's facts and its configuration; - is standard output.", valueName: "file"))
    var saveFacts: String?

    @OptionGroup var format: JSONOption

    func validate() throws {
        if facts != nil && saveFacts != nil { throw ValidationError("--facts excludes --save-facts") }
        if saveFacts == "-" && format.json { throw ValidationError("--save-facts - excludes --json") }
    }

    func run() throws {
        let examination = try facts.map(saved) ?? look()
        if let saveFacts { try save(examination, saveFacts) }
        let report = DoctorReport(examination)
        if format.json {
            try Output.json(report)
        } else if saveFacts != "-" {
            try show(report)
        }
        if report.problems > 0 { throw ExitCode(1) }
        // What no command makes readable is said, and is no failure.
        let isRefused = report.diagnoses.contains { $0.level == .unread && $0.command != nil }
        if isRefused { throw ExitCode(Failure.Code.notHere.rawValue) }
    }

    // MARK: Facts

    private var dropIns: String {
        ConfigurationFiles.dropInFolder(of: absolute(config ?? ConfigurationFiles.defaultPath))
    }

    /// The printed commands may be typed in another directory.
    private func absolute(_ path: String) -> String { URL(fileURLWithPath: path).path }

    private func look() throws -> Examination {
        let isThere = config != nil || FileManager.default.fileExists(atPath: ConfigurationFiles.defaultPath)
        guard isThere else {
            Output.error("shuck: \(ConfigurationFiles.defaultPath) does not exist: every tunnel is assumed")
            return .ofThisHost(nil, dropIns: dropIns) { Output.error("shuck: \($0)") }
        }
        let configuration = try load(config ?? ConfigurationFiles.defaultPath)
        let option = config.map { " --config \(absolute($0).shellWord)" } ?? ""
        return .ofThisHost(configuration, dropIns: dropIns, again: Examination.privileged + option)
    }

    private func load(_ path: String) throws -> Configuration {
        let (configuration, problems) = ConfigurationFiles.load(path)
        guard let configuration else {
            for problem in problems where problem.severity == .error { try Output.print("\(problem)") }
            throw ExitCode(1)
        }
        return configuration
    }

    private func saved(_ path: String) throws -> Examination {
        let text = try TextFile.text(path)
        struct Version: Decodable { var version: Int }
        let document: FactsDocument
        do {
            let version = try JSONDecoder().decode(Version.self, from: Data(text.utf8)).version
            guard version == FactsDocument.version else {
                throw Failure(
                    message: """
                        \(path) has version \(version) of the facts; this shuck reads version \
                        \(FactsDocument.version)
                        """)
            }
            document = try JSONDecoder().decode(FactsDocument.self, from: Data(text.utf8))
        } catch let failure as Failure {
            throw failure
        } catch {
            throw Failure(message: "\(path) holds no facts of shuck doctor --save-facts: \(error)")
        }
        guard document.isPlausible else {
            throw Failure(message: "\(path) holds numbers that no host has")
        }
        if let config { return Examination(try load(config), document.facts, dropIns: dropIns) }
        let loaded = Configuration.load(files: [("\(path): configuration", document.configuration)])
        guard let configuration = loaded.configuration else {
            throw Failure(
                message: "\(path): its configuration is bad: \(loaded.problems.first?.message ?? "")")
        }
        return Examination(configuration, document.facts, dropIns: dropIns)
    }

    private func save(_ examination: Examination, _ path: String) throws {
        let text = try Output.jsonText(FactsDocument(examination), [.prettyPrinted]) + "\n"
        guard path == "-" else {
            return try WholeFile.write(Array(text.utf8), to: path, option: "--save-facts", code: .badAnswer)
        }
        let file = try LineFile(path: path)
        file.write(text)
        try file.close()
    }

    // MARK: Text

    private func show(_ report: DoctorReport) throws {
        let painter = Painter.standardOutput
        let judged = report.diagnoses.filter { $0.level != .unread }
        let width = judged.map(\.condition.count).max() ?? 0
        for diagnosis in judged {
            let name = diagnosis.condition.padding(toLength: width, withPad: " ", startingAt: 0)
            try show(diagnosis, "\(name)  \(diagnosis.fact)", painter, indent: 11 + width)
        }
        // Several conditions may need what could not be read.
        var shown: Set<String> = []
        for diagnosis in report.diagnoses where diagnosis.level == .unread {
            guard shown.insert(diagnosis.fact).inserted else { continue }
            let all = report.diagnoses.filter { $0.level == .unread && $0.fact == diagnosis.fact }
            let names = all.map(\.condition).joined(separator: ", ")
            try show(diagnosis, "\(names): \(diagnosis.fact)", painter, indent: 9)
        }
        let problems = report.problems == 1 ? "1 problem" : "\(report.problems) problems"
        let warnings = report.warnings == 1 ? "1 warning" : "\(report.warnings) warnings"
        let unread = report.unread == 0 ? "" : ", \(report.unread) unread"
        try Output.print("\(problems), \(warnings)\(unread)")
    }

    private func show(_ diagnosis: Diagnosis, _ text: String, _ painter: Painter, indent: Int) throws {
        let level = diagnosis.level.rawValue.padding(toLength: 7, withPad: " ", startingAt: 0)
        try Output.print("\(painter.paint(level, diagnosis.level.style))  \(text)")
        let space = String(repeating: " ", count: indent)
        if let effect = diagnosis.effect { try Output.print(space + effect) }
        if let command = diagnosis.command { try Output.print(space + "> " + painter.paint(command, .bold)) }
    }
}

/// The findings as `--json` prints them.
struct DoctorReport: Encodable {
    let problems: Int
    let warnings: Int
    let unread: Int
    let diagnoses: [Diagnosis]

    init(_ examination: Examination) {
        let diagnoses = Doctor.diagnoses(examination)
        func count(_ level: Diagnosis.Level) -> Int { diagnoses.count { $0.level == level } }
        problems = count(.problem)
        warnings = count(.warning)
        unread = count(.unread)
        self.diagnoses = diagnoses
    }
}

extension FactsDocument {
    init(_ examination: Examination) {
        self.init(
            shuck: Build.version, configuration: examination.configuration.yaml, facts: examination.facts)
    }
}

extension Diagnosis.Level {
    fileprivate var style: Style {
        switch self {
        case .ok: .good
        case .warning, .unread: .attention
        case .problem: .bad
        }
    }
}
