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
        let why = sorted.isEmpty
            ? "" : " (" + sorted.map { "\($0.key) \($0.value)" }.joined(separator: ", ") + ")"
        return """
            \(frames) frames: \(injected) injected, \(passed) passed, \(dropped) dropped\(why), \
            \(held) held, \(replied) replied
            """
    }
}

final class Replay {
    private(set) var counts = ReplayCounts()
    private let world: World
    private let interface: UInt16
    private let link: LinkType
    private let output: CaptureWriter
    private let replies: CaptureWriter?
    private let rate: ReplyRate?
    private var rateStamp: UInt64 = 0
    private let sources: ReplySources
    private let verdictLines: VerdictLines?

    private let reassembler: Reassembler?
    private let nanosecondsPerTick: UInt64
    private let frame = UnsafeMutablePointer<Frame>.allocate(capacity: 1)
    private let verdict = UnsafeMutablePointer<Verdict>.allocate(capacity: 1)
    private let message = UnsafeMutableRawPointer.allocate(
        byteCount: ReplyMessage.capacity, alignment: 8)
    private let head = UnsafeMutableRawPointer.allocate(
        byteCount: Limits.headBytes, alignment: 64)

    /// - Parameter isNanosecond: what the capture's times count behind the seconds.
    init(
        world: World, configuration: Configuration, interface: Int, link: LinkType,
        isNanosecond: Bool, output: CaptureWriter, replies: CaptureWriter?,
        verdictLines: VerdictLines?
    ) {
        self.world = world
        self.interface = UInt16(interface)
        self.link = link
        self.output = output
        self.replies = replies
        rate = ReplyRate(configuration.icmp)
        sources = ReplySources(configuration)
        self.verdictLines = verdictLines
        let fragments = configuration.outer.fragments
        nanosecondsPerTick = isNanosecond ? 1 : 1000
        reassembler = fragments.memory == 0
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
        let parsed = link.parse(packet.bytes) ?? (packet.bytes.count, 0, false)
        // A packet of no bytes has no address.
        let base = packet.bytes.baseAddress ?? UnsafeRawPointer(head)
        frame.initialize(
            to: Frame(
                network: base + parsed.length, head: head,
                length: packet.bytes.count - parsed.length,
                wireLength: packet.wireLength - parsed.length, linkLength: parsed.length,
                etherType: parsed.etherType, interface: interface, isForUs: parsed.isForUs))
        let seconds = UInt64(max(packet.time.tv_sec, 0))
        let now = seconds * 1_000_000_000
            + UInt64(max(packet.time.tv_usec, 0)) * nanosecondsPerTick
        Judge.judge(
            frame, into: verdict, count: 1, world: world.view, reassembler: reassembler, now: now)
        if verdict.pointee.kind == .reply { reply(at: packet.time, now) }
        record(frame.pointee, verdict.pointee, packet.time)
    }

    /// As the daemon does it: what there is no token for is a drop.
    private func reply(at time: timeval, _ now: UInt64) {
        guard let rate, let stamp = rate.take(rateStamp, now: now) else {
            return verdict.pointee.kind = .drop
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
        ipv4 = (configuration.icmp.source4 ?? own.first(where: \.isIPv4))?.bytes
            ?? [UInt8](repeating: 0, count: 4)
        ipv6 = (configuration.icmp.source6 ?? own.first { !$0.isIPv4 })?.bytes
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
