// What a support case needs to know of a host and its daemon, gathered as named texts.

import Daemon
import Foundation
import HostPlan
import LinuxIO
import Settings

/// A part that cannot be read leaves a line in the summary; the report goes on without it.
struct BugReport {
    /// Names and contents of the archive's files, without the summary.
    private(set) var members: [(name: String, bytes: [UInt8])] = []
    /// What is missing, and why.
    private(set) var notes: [String] = []
    /// Of the process at the admin socket: its address, or why nobody answers there.
    private(set) var daemon = ""

    private var isAnonymised = false
    private let client: AdminClient

    /// - Parameters:
    ///   - config: path of the configuration file.
    ///   - interval: seconds between the two readings of the metrics.
    init(config: String, client: AdminClient, interval: UInt32) throws {
        self.client = client
        let start = Host.monotonicNanoseconds()
        let isRunning = readDaemon()
        let running = members.first { $0.name == "running.yaml" }.map { member in
            Configuration.load(files: [("running", String(decoding: member.bytes, as: UTF8.self))])
        }
        let configuration = readConfiguration(config) ?? running?.configuration
        try readHost(
            configuration, dropIns: ConfigurationFiles.dropInFolder(of: URL(fileURLWithPath: config).path))
        readRouting()
        readKernelLog()
        readVersions()
        guard isRunning else { return }
        let passed = Host.monotonicNanoseconds() - start
        let whole = UInt64(interval) * 1_000_000_000
        if passed < whole { usleep(UInt32((whole - passed) / 1000)) }
        fetch("/metrics", as: "metrics-2.txt")
    }

    private mutating func add(_ name: String, _ text: String) { members.append((name, Array(text.utf8))) }

    // MARK: The daemon

    /// - Returns: whether one answers.
    private mutating func readDaemon() -> Bool {
        do {
            add("metrics-1.txt", try client.get("/metrics"))
        } catch {
            daemon = "no answer: \((error as? Failure)?.message ?? "\(error)")"
            return false
        }
        daemon = "answers at \(client.socketPath)"
        fetch("/status", as: "status.json")
        fetch("/config", as: "running.yaml")
        return true
    }

    private mutating func fetch(_ path: String, as name: String) {
        do {
            add(name, try client.get(path))
        } catch {
            notes.append("\(name): \((error as? Failure)?.message ?? "\(error)")")
        }
    }

    // MARK: Configuration and host

    /// Adds the files as they are, and what they mean.
    private mutating func readConfiguration(_ path: String) -> Configuration? {
        do throws(Problem) {
            // `shuck check --config configuration/NAME` reads them with their drop-ins.
            let root = (path as NSString).deletingLastPathComponent
            for file in try ConfigurationFiles.read(path) {
                let isInRoot = file.name.hasPrefix(root) && !root.isEmpty
                let name = isInRoot ? String(file.name.dropFirst(root.count)) : file.name
                add("configuration/" + name.drop { $0 == "/" }, file.text)
            }
        } catch {
            notes.append("configuration: \(error)")
            return nil
        }
        let (configuration, problems) = ConfigurationFiles.loadForHost(path)
        if let configuration { add("effective.yaml", configuration.yaml) }
        if !problems.isEmpty {
            add("configuration-problems.txt", problems.map { "\($0)\n" }.joined())
        }
        return configuration
    }

    private mutating func readHost(_ configuration: Configuration?, dropIns: String) throws {
        if configuration == nil {
            notes.append("facts.json: there is no good configuration, so every tunnel is assumed")
        }
        let examination = Examination.ofThisHost(configuration, dropIns: dropIns)
        add("facts.json", try Output.jsonText(FactsDocument(examination), [.prettyPrinted]) + "\n")
        let report = DoctorReport(examination)
        add("doctor.json", try Output.jsonText(report, [.prettyPrinted]) + "\n")
        if report.unread > 0 {
            notes.append("facts.json: \(report.unread) conditions could not be read; doctor.json says why")
        }
    }

    /// In the form that `shuck replay --routes` and `--rules` read.
    private mutating func readRouting() {
        let commands = [
            ("routes-4.json", "ip -j -4 -d route show table all"),
            ("routes-6.json", "ip -j -6 -d route show table all"),
            ("nexthops.json", "ip -j nexthop"), ("links.json", "ip -j -d link"),
            ("rules-4.json", "ip -j -4 rule"), ("rules-6.json", "ip -j -6 rule"),
        ]
        for (name, command) in commands {
            switch HostCommand.output(command.split(separator: " ").map(String.init)) {
            // Older iproute2 prints nothing where a list is empty.
            case .success(let bytes) where bytes.allSatisfy { $0 == 10 || $0 == 32 }: add(name, "[]\n")
            case .success(let bytes): members.append((name, bytes))
            case .failure(let failure): notes.append("\(name): \(failure.message)")
            }
        }
    }

    private mutating func readKernelLog() {
        do throws(SystemError) {
            add("kernel.log", try KernelLog.records(naming: "shuck").map { $0 + "\n" }.joined())
        } catch {
            notes.append("kernel.log: \(error)")
        }
    }

    // MARK: Pseudonyms

    /// Replaces the addresses in all that was gathered.
    mutating func anonymise(_ anonymiser: Anonymiser) {
        for (index, member) in members.enumerated() where member.name != Self.versions {
            let text = String(decoding: member.bytes, as: UTF8.self)
            let isStructured = member.name.hasSuffix(".json") && member.name != "status.json"
            // What is no JSON after all is a text.
            let changed = (isStructured ? try? anonymiser.json(text) : nil) ?? anonymiser.text(text)
            members[index] = (anonymiser.text(member.name), Array(changed.utf8))
        }
        notes = notes.map(anonymiser.text)
        isAnonymised = true
    }

    // MARK: Versions and summary

    /// Numbers in it may look like addresses.
    private static let versions = "versions.txt"

    private mutating func readVersions() {
        let release = Host.read("/proc/sys/kernel/osrelease") ?? "unknown"
        let build = Host.read("/proc/sys/kernel/version") ?? "unknown"
        let system = Host.read("/etc/os-release") ?? Host.read("/usr/lib/os-release") ?? ""
        let name = system.split(separator: "\n").first { $0.hasPrefix("PRETTY_NAME=") }
        let pretty = name?.dropFirst("PRETTY_NAME=".count).filter { $0 != "\"" } ?? "unknown"
        add(
            Self.versions,
            """
            shuck   \(Build.version)
            kernel  \(release) \(build)
            system  \(pretty)

            """)
    }

    /// The first file of the archive.
    func summary(time: String) -> String {
        var lines = ["shuck bugreport of \(time), by shuck \(Build.version)", "daemon: \(daemon)", ""]
        lines += members.map { "\($0.name)  \($0.bytes.count) bytes" }.sorted()
        if isAnonymised { lines += ["", "Addresses are pseudonyms, the same in every file."] }
        lines += notes.isEmpty ? ["", "Nothing is missing."] : ["", "Missing:"]
        return (lines + notes).map { $0 + "\n" }.joined()
    }
}
