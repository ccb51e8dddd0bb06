// shuck replay: a capture through the forwarding code, with no kernel in the way.

import ArgumentParser
import Captures
import Daemon
import Forwarding
import Foundation
import Routing
import Settings

struct ReplayCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "replay",
        abstract: "Put a capture through the same forwarding code that run uses.",
        discussion: """
            Needs no privilege and no interface. The same capture always gives the same output; \
            the last line on standard error counts the frames by verdict.
            """)

    @Option(
        name: .customLong("in"),
        help: ArgumentHelp(
            "Capture to read, pcap or pcapng: Ethernet, RAW, Linux cooked. - is standard input.",
            valueName: "pcap"))
    var input: String

    @Option(
        name: .customLong("out"),
        help: ArgumentHelp(
            "Write injected inner packets to this pcap, linktype RAW. - is standard output.",
            valueName: "pcap"))
    var output: String

    @Option(help: ArgumentHelp("Write ICMP errors to this pcap, as --out.", valueName: "pcap"))
    var replies: String?

    @Option(
        help: ArgumentHelp(
            "Write verdicts to this file: one JSON object per frame, one per line. - is standard output.",
            valueName: "jsonl"))
    var verdicts: String?

    @Option(
        help: ArgumentHelp(
            "Configured interface that all frames came in on (default: as the capture says, else the first).",
            valueName: "name"))
    var interface: String?

    @Option(
        parsing: .upToNextOption,
        help: ArgumentHelp(
            "Files of `ip -j route show table all`, `ip -j -6 route show table all`, for the "
                + "reverse path; also of `ip -j nexthop`, `ip -j -d link`.",
            valueName: "json"))
    var routes: [String] = []

    @Option(
        parsing: .upToNextOption,
        help: ArgumentHelp(
            "Files of `ip -j rule`, `ip -j -6 rule`, one per family (default: the kernel's own rules).",
            valueName: "json"))
    var rules: [String] = []

    @Option(
        help: ArgumentHelp(
            "Most frames that are judged and coalesced together; every number gives the same output.",
            valueName: "frames"))
    var batch = Limits.batch

    @OptionGroup var file: ConfigurationOption
    @OptionGroup var format: JSONOption

    func validate() throws {
        guard (1...Batch.capacityMax).contains(batch) else {
            throw ValidationError("--batch is a number from 1 to \(Batch.capacityMax)")
        }
        if routes.isEmpty && !rules.isEmpty {
            throw ValidationError("--rules lead to routes: give --routes too")
        }
        let outputs = [("--out", output), ("--replies", replies), ("--verdicts", verdicts)]
            .compactMap { name, path in path.map { (name, Self.identity($0)) } }
        for (index, (name, path)) in outputs.enumerated() {
            if let path, path == Self.identity(input), path != "-" {
                throw ValidationError("\(name) is the file that --in reads; name another one")
            }
            if let path, let other = outputs[..<index].first(where: { $0.1 == path }) {
                throw ValidationError("\(other.0) and \(name) are the same file; name another one")
            }
        }
    }

    /// Equal for two names of one file; nil for files that may be written twice, such as /dev/null.
    private static func identity(_ path: String) -> String? {
        var status = stat()
        guard path != "-", stat(path, &status) == 0 else {
            return path == "-" ? path : URL(fileURLWithPath: path).standardizedFileURL.path
        }
        guard status.st_mode & S_IFMT == S_IFREG else { return nil }
        return "\(status.st_dev):\(status.st_ino)"
    }

    func run() throws {
        let configuration = try load()
        let policy = configuration.policy
        let place = try place(in: policy)
        let (world, names) = try world(policy)
        // Opened before the outputs, so that a wrong name overwrites no older result.
        let reader = try CaptureReader(path: input)
        let writer = try CaptureWriter(path: output, isNanosecond: reader.isNanosecond)
        let answers = try replies.map {
            try CaptureWriter(path: $0, isNanosecond: reader.isNanosecond)
        }
        let lines = try verdicts.map { try VerdictLines(LineFile(path: $0), policy: policy) }
        let replay = Replay(
            world: world, configuration: configuration, batchSize: batch,
            arrivals: Arrivals(policy, given: place, names: names), output: writer,
            replies: answers, verdictLines: lines)
        var damage: CaptureError?
        do throws(CaptureError) {
            while let packet = try reader.next() { replay.take(packet) }
        } catch {
            // The frames before the damage are judged and written all the same.
            damage = error
        }
        replay.finish()
        try writer.flush()
        try answers?.flush()
        try lines?.file.close()
        for note in replay.arrivals.notes(policy) { Output.error("shuck: \(note)") }
        let counts = replay.counts
        Output.error(format.json ? try Output.jsonText(counts) : counts.text)
        guard counts.isConserved, counts.injected == writer.count else {
            throw Failure(message: "the verdicts do not add up to the frames; this is a bug in shuck")
        }
        if let damage { throw damage }
    }

    private func load() throws -> Configuration {
        let (configuration, problems) = ConfigurationFiles.load(file.config)
        for problem in problems { Output.error("\(problem)") }
        guard let configuration else { throw ExitCode(1) }
        return configuration
    }

    private func place(in policy: Policy) throws -> Int? {
        guard let interface else { return nil }
        let names = policy.interfaces.map(\.name)
        guard let place = names.firstIndex(of: interface) else {
            let known = names.joined(separator: ", ")
            throw ValidationError(
                "--interface \(interface) is not configured; there are \(known)")
        }
        return place
    }

    private func world(_ policy: Policy) throws -> (ForwardingTables, names: [Int32: String]) {
        var host = try HostFiles(routes: routes, rules: rules, interfaces: policy.interfaces.map(\.name))
        for note in host.notes { Output.error("shuck: \(note)") }
        if routes.isEmpty {
            Output.error("shuck: the reverse path is not checked: there are no --routes")
        } else {
            warnOfMissingRoutes(host.routes, policy)
        }
        let walked = [true, false].flatMap { isIPv4 in
            host.rules[isIPv4] ?? RuleEntry.kernelDefaults.filter { $0.isIPv4 == isIPv4 }
        }
        let mirror = RouteMirror()
        mirror.load(host.routes, rules: walked, groups: host.groups, vrfs: host.vrfs)
        let world = ForwardingTables(
            policy: PolicyTables(policy), routes: routes.isEmpty ? nil : mirror.generation(),
            interfaces: policy.interfaces.map {
                InterfaceState(
                    index: host.interface($0.name), mtu: 1500, reversePath: $0.reversePath,
                    vrf: host.vrfOfInterface[$0.name] ?? 0)
            })
        return (world, host.names)
    }

    /// A forgotten family looks like an attack: every source of it fails the reverse-path check.
    private func warnOfMissingRoutes(_ entries: [RouteEntry], _ policy: Policy) {
        let modes = policy.tunnels.reduce(into: Set<Mode>()) { $0.formUnion($1.modes) }
        for isIPv4 in [true, false] where modes.contains(where: { $0.innerIsIPv4 == isIPv4 }) {
            guard !entries.contains(where: { $0.prefix.isIPv4 == isIPv4 }) else { continue }
            let family = isIPv4 ? "IPv4" : "IPv6"
            Output.error(
                "shuck: --routes hold none of \(family): no inner \(family) source has a way back")
        }
    }
}
