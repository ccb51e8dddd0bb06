// The second driver of the judge: frames of a capture one by one, inner packets to another one.
// Its clock is the capture's and its chance has a fixed seed: the same bytes again each time.

import Captures
import Forwarding
import Foundation
import Settings

/// What became of the frames, for the last line.
struct ReplayCounts: Encodable {
    var frames = 0
    var injected = 0
    var passed = 0
    var held = 0
    var dropped = 0
    var replied = 0
    /// Of `dropped`, by reason.
    var reasons: [String: Int] = [:]

    /// Each frame has exactly one fate.
    var isConserved: Bool {
        frames == injected + passed + held + dropped + replied
            && dropped == reasons.values.reduce(0, +)
    }

    var text: String {
        let sorted = reasons.sorted { ($1.value, $0.key) < ($0.value, $1.key) }
        let why =
            sorted.isEmpty
            ? "" : " (" + sorted.map { "\($0.key) \($0.value)" }.joined(separator: ", ") + ")"
        return """
            \(frames) frames: \(injected) injected, \(passed) passed, \(dropped) dropped\(why), \
            \(held) held, \(replied) replied
            """
    }
}

/// Which configured interface each frame came in by.
struct Arrivals {
    private let configured: [String: UInt16]
    /// `--interface`, which counts for all frames; else the first, for those of which nothing is told.
    private let isGiven: Bool
    private let standard: UInt16
    /// Names by the host's own numbers.
    private let names: [Int32: String]
    private var unknownNames: Set<String> = []
    private var unnamed: Set<Int32> = []

    init(_ policy: Policy, given: Int?, names: [Int32: String]) {
        configured = Dictionary(
            policy.interfaces.enumerated().map { ($1.name, UInt16($0)) }, uniquingKeysWith: { $1 })
        isGiven = given != nil
        standard = UInt16(given ?? 0)
        self.names = names
    }

    mutating func interface(of packet: CapturedPacket) -> UInt16 {
        if isGiven { return standard }
        let named = packet.interfaceIndex.flatMap { names[$0] }
        if let index = packet.interfaceIndex, named == nil { unnamed.insert(index) }
        guard let name = named ?? packet.interface.name, name != "any" else { return standard }
        if let known = configured[name] { return known }
        unknownNames.insert(name)
        return standard
    }

    /// What the answers had to do without.
    func notes(_ policy: Policy) -> [String] {
        let first = policy.interfaces[Int(standard)].name
        var notes: [String] = []
        if !unknownNames.isEmpty {
            notes.append(
                """
                the capture names interfaces that are not configured, \
                \(unknownNames.sorted().joined(separator: ", ")): their frames are taken as \(first)'s; \
                --interface says what all came in by
                """)
        }
        if unnamed.count > 1 {
            notes.append(
                """
                the capture's frames came in by \(unnamed.count) interfaces without names, and are \
                taken as \(first)'s: add the output of `ip -j -d link` to --routes
                """)
        }
        return notes
    }
}

final class Replay {
    private(set) var counts = ReplayCounts()
    private let world: World
    private(set) var arrivals: Arrivals
    private var clock = CaptureClock()
    private let output: CaptureWriter
    private let replies: CaptureWriter?
    private let rate: ReplyRate?
    private var rateStamp: UInt64 = 0
    private let sources: ReplySources
    private let verdictLines: VerdictLines?

    private let reassembler: Reassembler?
    private let frame = UnsafeMutablePointer<Frame>.allocate(capacity: 1)
    private let verdict = UnsafeMutablePointer<Verdict>.allocate(capacity: 1)
    private let message = UnsafeMutableRawPointer.allocate(
        byteCount: ReplyMessage.capacity, alignment: 8)
    private let head = UnsafeMutableRawPointer.allocate(
        byteCount: Limits.headBytes, alignment: 64)

    init(
        world: World, configuration: Configuration, arrivals: Arrivals, output: CaptureWriter,
        replies: CaptureWriter?, verdictLines: VerdictLines?
    ) {
        self.world = world
        self.arrivals = arrivals
        self.output = output
        self.replies = replies
        rate = ReplyRate(configuration.icmp)
        sources = ReplySources(configuration)
        self.verdictLines = verdictLines
        let fragments = configuration.outer.fragments
        reassembler =
            fragments.memory == 0
            ? nil
            : Reassembler(
                memory: fragments.memory, timeout: fragments.timeout.nanoseconds, seed: 1)
    }

    deinit {
        frame.deallocate()
        verdict.deallocate()
        message.deallocate()
        head.deallocate()
    }

    func take(_ packet: CapturedPacket) {
        // Too short for its link layer: as a frame of a protocol that is not ours.
        let parsed = packet.interface.link.parse(packet.bytes) ?? (packet.bytes.count, 0, false)
        // A packet of no bytes has no address.
        let base = packet.bytes.baseAddress ?? UnsafeRawPointer(head)
        frame.initialize(
            to: Frame(
                network: base + parsed.length, head: head,
                length: packet.bytes.count - parsed.length,
                wireLength: packet.wireLength - parsed.length, linkLength: parsed.length,
                etherType: parsed.etherType, interface: arrivals.interface(of: packet),
                isForUs: parsed.isForUs))
        clock.advance(to: packet.nanoseconds)
        let now = clock.now
        Judge.judge(
            frame, into: verdict, count: 1, world: world.view, reassembler: reassembler, now: now)
        if verdict.pointee.kind == .reply { reply(at: packet.time, now) }
        record(frame.pointee, verdict.pointee, packet.time)
    }

    /// As the daemon does it: what there is no token for is a drop.
    private func reply(at time: timeval, _ now: UInt64) {
        guard let rate, let stamp = rate.take(rateStamp, now: now) else {
            verdict.pointee.kind = .drop
            return
        }
        rateStamp = stamp
        guard let replies else { return }
        let isIPv4 = verdict.pointee.mode.innerIsIPv4
        let count = ReplyMessage.writePacket(
            to: message, frame.pointee, verdict.pointee,
            mtu: world.policy.policy.devices[Int(verdict.pointee.device)].mtu,
            source: isIPv4 ? sources.ipv4 : sources.ipv6)
        replies.write(
            time, UnsafeRawBufferPointer(start: message, count: count),
            UnsafeRawBufferPointer(start: nil, count: 0))
    }

    private func record(_ frame: Frame, _ verdict: Verdict, _ time: timeval) {
        verdictLines?.write(verdict, frame: counts.frames)
        counts.frames += 1
        switch verdict.kind {
        case .inject:
            counts.injected += 1
            let head = Int(verdict.headLength)
            output.write(
                time, UnsafeRawBufferPointer(start: frame.head, count: head),
                UnsafeRawBufferPointer(
                    start: frame.network + Int(verdict.offset) + head,
                    count: Int(verdict.length) - head))
        case .pass: counts.passed += 1
        case .hold: counts.held += 1
        case .drop:
            counts.dropped += 1
            counts.reasons[verdict.reason.name, default: 0] += 1
        case .reply: counts.replied += 1
        }
    }
}

/// Where errors come from. `auto` is the host's choice by its routes; without a host the first
/// address that a tunnel has in the family, or the unspecified one.
private struct ReplySources {
    let ipv4: [UInt8]
    let ipv6: [UInt8]

    init(_ configuration: Configuration) {
        let own = configuration.tunnels.flatMap(\.local).filter(\.isHost).map(\.address)
        ipv4 =
            (configuration.icmp.source4 ?? own.first(where: \.isIPv4))?.bytes
            ?? [UInt8](repeating: 0, count: 4)
        ipv6 =
            (configuration.icmp.source6 ?? own.first { !$0.isIPv4 })?.bytes
            ?? [UInt8](repeating: 0, count: 16)
    }
}

/// Verdicts as JSON, one object a line, the keys always in the same order.
final class VerdictLines {
    private let file: LineFile
    private let tunnels: [String]
    private let devices: [String]

    init(_ file: LineFile, policy: Policy) throws {
        self.file = file
        tunnels = try policy.tunnels.map { try Output.jsonText($0.name) }
        devices = try policy.devices.map { try Output.jsonText($0.name) }
    }

    func write(_ verdict: Verdict, frame: Int) {
        var line = "{\"frame\":\(frame),\"verdict\":\"\(verdict.kind)\""
        if verdict.kind == .drop || verdict.kind == .reply {
            line += ",\"reason\":\"\(verdict.reason.name)\""
        }
        if verdict.tunnel != Verdict.noIndex {
            line += ",\"mode\":\"\(verdict.mode.name)\",\"tunnel\":\(tunnels[Int(verdict.tunnel)])"
        }
        if verdict.kind == .inject { line += ",\"device\":\(devices[Int(verdict.device)])" }
        file.write(line + "}\n")
    }

    func close() throws(Failure) { try file.close() }
}
