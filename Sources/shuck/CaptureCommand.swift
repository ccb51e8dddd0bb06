// shuck capture: live frames with their verdicts, to a terminal, a pcapng file or a pipe.

import ArgumentParser
import Captures
import Daemon
import Forwarding
import Foundation
import LinuxIO
import Settings

struct CaptureCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "capture",
        abstract: "Live frames as they came, each with its verdict; or the last one of each reason.",
        discussion: """
            Prints a line per frame; with -w writes pcapng, which tshark and Wireshark read, with verdict, \
            reason, tunnel, mode, interface, device, worker and generation of the configuration in each \
            packet's comment. The filter is one of pcap-filter(7), for the frames as they came, on \
            Ethernet. Forwarding never waits for a capture: frames that it has no room for are counted, \
            and their number is printed at the end. One capture runs at a time. Ends with -c, with the \
            daemon, and at SIGINT or SIGTERM. Exit code 1: the daemon ended, or the output could not be \
            written.
            """)

    @Option(
        name: .customLong("reason"),
        help: ArgumentHelp("Only drops of this reason; may be given several times.", valueName: "name"))
    var reasons: [String] = []

    @Option(
        name: .customLong("verdict"),
        help: ArgumentHelp(
            "Only this verdict: inject, pass, hold, drop or reply; likewise.", valueName: "name"))
    var verdicts: [String] = []

    @Option(
        name: .customLong("tunnel"),
        help: ArgumentHelp("Only frames of this tunnel; likewise.", valueName: "name"))
    var tunnels: [String] = []

    @Option(name: .customShort("c"), help: ArgumentHelp("End after so many packets.", valueName: "count"))
    var count: Int?

    @Option(
        name: .customShort("w"),
        help: ArgumentHelp(
            "Write pcapng to this file, which is replaced; - is standard output.", valueName: "file"))
    var file: String?

    @Flag(
        help:
            "Also what is injected, as interfaces of the devices; the filter does not concern it."
    )
    var injected = false

    @Flag(help: "The last refused frame of each reason, headers only, instead of live ones.")
    var lastDrops = false

    @Argument(help: ArgumentHelp("Only frames that meet this filter.", valueName: "filter"))
    var filter: [String] = []

    @OptionGroup var socket: SocketOption

    func validate() throws {
        let names = DropReason.allCases.dropFirst().map(\.name)
        for reason in reasons where !names.contains(reason) {
            let near = ValueSyntax.nearest(reason, among: names)
            let remedy = near.map { "did you mean \($0)?" } ?? "shuck explain lists all"
            throw ValidationError("\(Output.visible(reason)) is no reason; \(remedy)")
        }
        let kinds = Verdict.Kind.allCases.map { "\($0)" }
        for verdict in verdicts where !kinds.contains(verdict) {
            throw ValidationError(
                "\(Output.visible(verdict)) is no verdict; there are \(kinds.joined(separator: ", "))")
        }
        if let count, count < 1 { throw ValidationError("-c takes a number of 1 or more") }
        if lastDrops, !verdicts.isEmpty || !tunnels.isEmpty || count != nil || injected || !filter.isEmpty {
            throw ValidationError("--last-drops goes with --reason and -w alone")
        }
    }

    func run() throws {
        if lastDrops { return try showLastDrops() }
        let program = try filter.isEmpty ? nil : FrameProgram(filter.joined(separator: " "))
        let interruption = try Interruption()
        let reader = try CaptureStreamReader(socket.client, path, interruption)
        var output = try CaptureOutput(file)
        Output.error("capturing, until interrupted")
        var (packets, dropped) = (0, UInt64(0))
        var links: [UInt32] = []
        while let block = try reader.next() {
            switch word(block, 0) {
            case CaptureBlock.interface: links.append(word(block, 8) & 0xffff)
            case CaptureBlock.statistics:
                dropped = CapturedBlock.dropped(block) ?? dropped
                if try !output.statistics(block) { return }
                continue
            case CaptureBlock.enhancedPacket:
                let isFrame = links[Int(word(block, 8))] == 1
                if let program, isFrame, !program.matches(CapturedBlock(block).bytes) { continue }
                packets += 1
            default: break
            }
            try output.write(block)
            if packets == count { break }
        }
        try output.end()
        Output.error(
            "\(packets) packets captured"
                + (dropped > 0 ? ", \(dropped) that found no room are left out" : ""))
        if reader.ending == .closed && packets != count ?? -1 {
            throw Failure(
                message: "the shuck at \(socket.socket) ended the capture: it stopped, or waited too long")
        }
    }

    private var path: String {
        var query = URLComponents()
        query.path = "/capture"
        query.queryItems =
            verdicts.map { URLQueryItem(name: "verdict", value: $0) }
            + reasons.map { URLQueryItem(name: "reason", value: $0) }
            + tunnels.map { URLQueryItem(name: "tunnel", value: $0) }
            + (injected ? [URLQueryItem(name: "injected", value: "1")] : [])
        return query.string ?? "/capture"
    }

    // MARK: The last drops

    private func showLastDrops() throws {
        let text = try socket.client.get("/status")
        guard let report = try? JSONDecoder().decode(StatusReport.self, from: Data(text.utf8)) else {
            throw Failure(
                message: "the shuck at \(socket.socket) is another version: its status cannot be read")
        }
        let drops = (report.lastDrops ?? [:]).filter { reasons.isEmpty || reasons.contains($0.key) }
            .sorted { $0.value.age > $1.value.age }
        var output = try CaptureOutput(file)
        try output.write(CaptureBlock.section("shuck \(Build.version)"))
        var numbers: [String: Int] = [:]
        for (reason, drop) in drops {
            if numbers[drop.interface] == nil {
                numbers[drop.interface] = numbers.count
                // From the network header on.
                try output.write(CaptureBlock.interface(drop.interface, link: 101))
            }
            let head = Self.bytes(drop.head ?? "")
            let time = UInt64((Host.unixSeconds() - drop.age) * 1e9)
            try head.withUnsafeBytes { bytes in
                try output.write(
                    CaptureBlock.packet(
                        bytes, wireLength: bytes.count, interface: numbers[drop.interface] ?? 0,
                        nanoseconds: time,
                        comment: "verdict=drop reason=\(reason) interface=\(drop.interface)"))
            }
        }
        try output.end()
    }

    private static func bytes(_ text: String) -> [UInt8] {
        let digits = Array(text.utf8)
        return stride(from: 0, to: digits.count - 1, by: 2).compactMap {
            UInt8(String(decoding: digits[$0...$0 + 1], as: UTF8.self), radix: 16)
        }
    }
}
