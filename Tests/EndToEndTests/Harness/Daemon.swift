// shuck run on the rig's node: started, asked, and ended.

import Foundation
import Testing

/// The parts of /status that the tests look at.
struct Status: Decodable {
    struct Interface: Decodable {
        let name: String
        let state: String
        let claimActive: String
    }
    struct Device: Decodable {
        let name: String
        let state: String
        let netns: String?
        let queues: Int
        let joins: [String]
    }
    struct Replies: Decodable {
        let asked: String
        let active: String
        let table: String?
    }
    struct Worker: Decodable {
        let worker: Int
        let received: Int
        let cpuSeconds: Double
    }
    let processID: pid_t
    let engineProcessID: pid_t
    let engineRestarts: Int
    let lastEngineEnd: String?
    let mode: String
    struct Drop: Decodable {
        let age: Double
        let interface: String
        let packet: String
    }
    let ready: Bool
    let notReady: [String]
    let generation: Int
    let publications: Int
    let handOvers: Int
    let lastDrops: [String: Drop]
    let joining: String
    let engine: String
    let lastReloadSuccessful: Bool
    let lastReloadProblems: [String]
    let interfaces: [Interface]
    let devices: [Device]
    let mssReplies: Replies
    let tunnels: [String]
    let workers: [Worker]
    let packets: [String: Int]
    let dropsByReason: [String: Int]
    let injectedByMode: [String: Int]
    let notes: [String]
}

/// A page of /metrics, by series as they stand there.
struct Metrics {
    let values: [String: Double]

    init(_ page: String) {
        var values: [String: Double] = [:]
        for line in page.split(separator: "\n") where !line.hasPrefix("#") {
            guard let space = line.lastIndex(of: " ") else { continue }
            values[String(line[..<space])] = Double(line[line.index(after: space)...])
        }
        self.values = values
    }

    /// The sum over all series of a name that have this label.
    func sum(_ name: String, _ label: String = "") -> Int {
        let matching = values.filter { series, _ in
            (series == name || series.hasPrefix(name + "{"))
                && (label.isEmpty || series.contains(label))
        }
        return Int(matching.values.reduce(0, +))
    }

    /// Refused frames by reason, without the reasons that never came.
    var drops: [String: Int] {
        var drops: [String: Int] = [:]
        for (series, value) in values
        where series.hasPrefix("shuck_dropped_packets_total{") && value > 0 {
            let behind = series.components(separatedBy: "reason=\"").last ?? ""
            drops[behind.components(separatedBy: "\"")[0], default: 0] += Int(value)
        }
        return drops
    }
}

final class Daemon {
    /// The process that forwards; 0: not known yet.
    private var engine: pid_t = 0
    let process: RunningCommand
    let socket: String
    let configurationPath: String

    /// - Parameters:
    ///   - wrapper: a command that runs it.
    ///   - options: of `run`.
    ///   - name: for a second one beside the first.
    ///   - binary: the executable.
    init(
        _ rig: Rig, _ configuration: Setup = Setup(), wrapper: [String] = [],
        options: [String] = [], name: String = "shuck", place: Place = .node, binary: String = Tools.shuck
    ) throws {
        socket = "\(rig.directory)/\(name).sock"
        configurationPath = "\(rig.directory)/\(name).yaml"
        try Self.write(configuration.text(socket: socket), configurationPath)
        process = try rig.start(
            place, wrapper + [binary, "run", "--config", configurationPath] + options)
    }

    private static func write(_ text: String, _ path: String) throws {
        try text.write(toFile: path, atomically: false, encoding: .utf8)
    }

    /// Starts one and waits until it forwards.
    static func ready(_ rig: Rig, _ configuration: Setup = Setup()) throws -> Daemon {
        let daemon = try Daemon(rig, configuration)
        try daemon.waitUntilReady()
        return daemon
    }

    func waitUntilReady() throws {
        try eventually("shuck to be ready") {
            guard process.isRunning else { throw Failure("shuck ended: \(process.errors)") }
            return isReady
        }
    }

    var isReady: Bool { AdminClient.ask(socket, "GET", "/readyz")?.status == 200 }

    /// Puts another configuration where it looks for one.
    func configure(_ configuration: Setup) throws {
        try Self.write(configuration.text(socket: socket), configurationPath)
    }

    func configure(text: String) throws { try Self.write(text, configurationPath) }

    func reload() throws -> AdminAnswer {
        guard let answer = AdminClient.ask(socket, "POST", "/reload") else {
            throw Failure("no answer to a reload: \(process.errors)")
        }
        return answer
    }

    func status() throws -> Status {
        try JSONDecoder().decode(Status.self, from: Data(try page("/status").utf8))
    }

    /// Signals the process that forwards; what is stopped is asked no status.
    func signalEngine(_ number: Int32) throws {
        if engine == 0 { engine = try status().engineProcessID }
        kill(engine, number)
    }

    func metrics() throws -> Metrics { Metrics(try page("/metrics")) }

    private func page(_ path: String) throws -> String {
        guard let answer = AdminClient.ask(socket, "GET", path), answer.status == 200 else {
            throw Failure("no \(path): \(process.errors)")
        }
        return answer.body
    }

    /// Waits until so many frames have met their fate. They are counted behind their writes, so that a frame
    /// may be seen, or answered by the kernel, before it is counted.
    func wait(received count: Int) throws {
        try eventually("\(count) frames to be counted") {
            try status().packets["received", default: 0] >= count
        }
    }

    /// Waits for a line of the log that holds all of these words. A thread of its own writes the log, so
    /// that a line may come later than the state that it tells of.
    /// - Returns: the last such line.
    @discardableResult
    func waitForLine(containing words: String..., seconds: Double = 30) throws -> Substring {
        var found: Substring?
        do {
            try eventually("a line with \(words)", seconds) {
                found = process.errors.split(separator: "\n").last { words.allSatisfy($0.contains) }
                return found != nil
            }
        } catch {
            throw Failure("\(error) in: \(process.errors)")
        }
        return try #require(found)
    }

    /// Ends it as a service manager does.
    func stop() throws -> CommandResult {
        process.signal(SIGTERM)
        return try process.wait(seconds: 20)
    }

    /// Every frame that came has one fate, in both places where the daemon says so.
    func expectConservation(sourceLocation: SourceLocation = #_sourceLocation) throws {
        let packets = try status().packets
        let fates = ["injected", "passed", "dropped", "replied", "held"]
        #expect(
            packets["received"] == fates.reduce(0) { $0 + packets[$1, default: 0] },
            "status: \(packets)", sourceLocation: sourceLocation)
        let metrics = try metrics()
        for name in fates + ["received"] where packets[name, default: 0] > 0 {
            #expect(
                metrics.values.keys.contains { $0.hasPrefix("shuck_\(name)_packets_total") },
                "no series for \(name)", sourceLocation: sourceLocation)
        }
        let sums = fates.map { metrics.sum("shuck_\($0)_packets_total") }
        #expect(
            metrics.sum("shuck_received_packets_total") == sums.reduce(0, +),
            "metrics: \(fates) \(sums)", sourceLocation: sourceLocation)
    }
}

/// A configuration for the rig's node.
struct Setup {
    struct Tunnel {
        var name = "lvs"
        var local = [Rig.node4, Rig.node6]
        var remotes = [Rig.balancer4, Rig.balancer6]
        var destinations = Mode.allCases.map(\.vip)
        /// Further keys, one a line.
        var more: [String] = []
    }
    var interfaces = ["eth0"]
    var tunnels = [Tunnel()]
    var workers = 1
    var coalesce = true
    var busyPoll = "0us"
    /// Further keys, one a line.
    var more: [String] = []
    /// A text that stands for all of it.
    var whole: String?

    func text(socket: String) -> String {
        if let whole { return whole }
        func list(_ items: [String]) -> String {
            "[" + items.map { "\"\($0)\"" }.joined(separator: ", ") + "]"
        }
        var lines = ["interfaces: \(list(interfaces))", "tunnels:"]
        for tunnel in tunnels {
            lines.append("  - name: \(tunnel.name)")
            lines.append("    local: \(list(tunnel.local))")
            lines.append("    remotes: \(list(tunnel.remotes))")
            lines.append("    destinations:")
            lines += tunnel.destinations.map { "      - prefix: \"\($0)\"" }
            lines += tunnel.more.map { "    " + $0 }
        }
        let cpus = workers == 1 ? "0" : "0-\(workers - 1)"
        lines.append(
            "workers: {cpus: \"\(cpus)\", busyPoll: \(busyPoll), coalesce: \(coalesce ? "on" : "off")}")
        lines.append("admin: {socket: \"\(socket)\"}")
        return (lines + more).joined(separator: "\n") + "\n"
    }
}

/// The four encapsulations, and the rig's address that is reached by each.
enum Mode: String, CaseIterable, Sendable {
    case ipip, ip6ip, ipip6, ip6ip6

    var outerIsIPv4: Bool { self == .ipip || self == .ip6ip }
    var innerIsIPv4: Bool { self == .ipip || self == .ipip6 }

    /// As a destination's prefix, too.
    var vip: String {
        switch self {
        case .ipip: "203.0.113.4"
        case .ipip6: "203.0.113.6"
        case .ip6ip: "2001:db8:f::4"
        case .ip6ip6: "2001:db8:f::6"
        }
    }

    /// 1500 bytes of link less the outer header, the inner one, and TCP's 20.
    var clampedMSS: Int {
        1500 - (outerIsIPv4 ? 20 : 40) - (innerIsIPv4 ? 20 : 40) - 20
    }
}
