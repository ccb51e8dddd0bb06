// The last refused frame of each reason: written by one worker, read by anybody at any time.

import Forwarding
import IP
import LinuxIO
import Settings
import Synchronization

/// One worker's: a slot for each reason.
final class DropExamples: @unchecked Sendable {
    // @unchecked: every word is an atomic with one writer.

    /// Bytes of a frame that are kept, from its network header on: outer and inner header of any mode
    /// with some extension headers, and the ports.
    static let headBytes = 112
    /// A reason's example is replaced at most once in so long, in ns, so that a flood does not pay for it.
    private static let interval: UInt64 = 100_000_000
    private static let words = 3 + headBytes / 8

    private let memory: NamedMemory
    private let slots: UnsafeMutablePointer<Atomic<UInt64>>
    private let recent: UnsafeMutablePointer<Atomic<UInt64>>

    /// - Parameter cpu: the writer's.
    init(cpu: Int) throws(SystemError) {
        let count = DropReason.allCases.count * Self.words
        let bytes =
            NamedMemory.bytes(for: Atomic<UInt64>.self, count)
            + NamedMemory.bytes(for: Atomic<UInt64>.self, 2)
        memory = try NamedMemory(name: "shuck-examples", byteCount: bytes, cpu: cpu)
        slots = memory.take(Atomic<UInt64>.self, count)
        recent = memory.take(Atomic<UInt64>.self, 2)
    }

    var writer: Writer { Writer(slots: slots, recent: recent) }

    /// What the worker holds: trivially copyable. A slot is a sequence number, odd while it is
    /// written; a stamp of CLOCK_MONOTONIC in nanoseconds; interface << 8 | bytes of the head; and
    /// the head of the frame.
    struct Writer {
        fileprivate let slots: UnsafeMutablePointer<Atomic<UInt64>>
        /// Reasons with a new example, by bit; then until when that counts. In memory of its own: a
        /// field that changes would cost a check of exclusive access for each frame.
        fileprivate let recent: UnsafeMutablePointer<Atomic<UInt64>>

        /// To be called before the first `note` of a batch.
        @inline(__always)
        func begin(now: UInt64) {
            if now < recent[1].load(ordering: .relaxed) { return }
            recent[0].store(0, ordering: .relaxed)
            recent[1].store(now &+ DropExamples.interval, ordering: .relaxed)
        }

        @inline(__always)
        func note(_ reason: DropReason, _ frame: UnsafePointer<Frame>, now: UInt64) {
            let bit = UInt64(1) &<< UInt64(reason.rawValue)
            let old = recent[0].load(ordering: .relaxed)
            if old & bit != 0 { return }
            recent[0].store(old | bit, ordering: .relaxed)
            write(slots + Int(reason.rawValue) &* DropExamples.words, frame, now)
        }

        @inline(never)
        private func write(
            _ slot: UnsafeMutablePointer<Atomic<UInt64>>, _ frame: UnsafePointer<Frame>, _ now: UInt64
        ) {
            let count = min(frame.pointee.length, DropExamples.headBytes)
            let sequence = slot[0].load(ordering: .relaxed)
            slot[0].store(sequence &+ 1, ordering: .relaxed)
            atomicMemoryFence(ordering: .releasing)
            slot[1].store(now, ordering: .relaxed)
            slot[2].store(
                UInt64(frame.pointee.interface) << 8 | UInt64(max(count, 0)), ordering: .relaxed)
            var offset = 0
            while offset < count {
                var word: UInt64 = 0
                for byte in offset..<min(offset &+ 8, count) {
                    let value = frame.pointee.network.load(fromByteOffset: byte, as: UInt8.self)
                    word |= UInt64(value) << UInt64(8 &* (byte &- offset))
                }
                slot[3 &+ offset / 8].store(word, ordering: .relaxed)
                offset &+= 8
            }
            slot[0].store(sequence &+ 2, ordering: .releasing)
        }
    }

    struct Example: Sendable {
        /// CLOCK_MONOTONIC, nanoseconds.
        var stamp: UInt64
        /// Index into the policy's interfaces.
        var interface: Int
        /// From the network header on.
        var head: [UInt8]
    }

    /// nil while no frame was refused for it, and where a writer stands still within it.
    func read(_ reason: DropReason) -> Example? {
        let slot = slots + Int(reason.rawValue) * Self.words
        for attempt in 1...CounterBlock.attempts {
            let before = slot[0].load(ordering: .acquiring)
            if before == 0 { return nil }
            let stamp = slot[1].load(ordering: .relaxed)
            let packed = slot[2].load(ordering: .relaxed)
            let count = min(Int(packed & 0xff), Self.headBytes)
            let head = (0..<count).map { index in
                let word = slot[3 + index / 8].load(ordering: .relaxed)
                return UInt8(truncatingIfNeeded: word >> UInt64(8 * (index % 8)))
            }
            atomicMemoryFence(ordering: .acquiring)
            if before & 1 == 0, slot[0].load(ordering: .relaxed) == before {
                return Example(
                    stamp: stamp, interface: Int(packed >> 8 & 0xffff), head: head)
            }
            CounterBlock.pause(after: attempt)
        }
        return nil
    }
}

/// A packet in one line, outer header first:
/// `192.0.2.1 > 192.0.2.2 ipip 198.51.100.2:4000 > 203.0.113.4:80 tcp`.
enum PacketLine {
    /// - Parameter head: the first bytes, from the network header on; a header that is cut off ends
    ///   the line.
    static func text(_ head: [UInt8]) -> String {
        head.withUnsafeBytes { buffer in
            guard let base = buffer.baseAddress, let outer = Header(Bytes(base, count: buffer.count)) else {
                return "\(head.count) bytes that are no IP header"
            }
            guard outer.isTunnel else { return outer.text }
            let mode = Mode.allCases.first {
                $0.outerIsIPv4 == outer.isIPv4 && $0.innerIsIPv4 == (outer.next == ProtocolNumber.ipv4)
            }
            let name = mode?.name ?? "protocol \(outer.next)"
            let inner = Header(outer.rest)?.text ?? "no IP header"
            return "\(outer.source.text) > \(outer.destination.text) \(name) \(inner)"
        }
    }

    private struct Header {
        let isIPv4: Bool
        let source: Address
        let destination: Address
        let next: UInt8
        let isLaterFragment: Bool
        let rest: Bytes

        var isTunnel: Bool { ProtocolNumber.isTunnel(next) && !isLaterFragment }

        /// Over the extension headers that are at hand (RFC 8200 §4).
        init?(_ packet: Bytes) {
            let start: Int
            switch packet.count > 0 ? packet.ipv4.version : 0 {
            case 4 where packet.count >= IPv4Header.byteCount:
                let header = packet.ipv4
                (isIPv4, source) = (true, Address(ipv4: header.source))
                destination = Address(ipv4: header.destination)
                (next, isLaterFragment) = (header.protocolNumber, header.isLaterFragment)
                start = max(header.headerLength, IPv4Header.byteCount)
            case 6 where packet.count >= IPv6Header.byteCount:
                var walk = ExtensionHeaderWalk(packet)
                var isLater = false
                while !isLater, ExtensionHeader.isWalked(walk.number),
                    let header = walk.next(in: packet, end: packet.count)
                {
                    isLater =
                        header.number == ProtocolNumber.fragment
                        && packet.fragmentHeader(at: header.offset).fragmentOffset != 0
                }
                (isIPv4, source, destination) = (false, packet.ipv6.source, packet.ipv6.destination)
                (next, isLaterFragment, start) = (walk.number, isLater, walk.offset)
            default: return nil
            }
            rest = packet.dropFirst(min(start, packet.count))
        }

        var text: String {
            let names = [
                ProtocolNumber.icmp: "icmp", ProtocolNumber.tcp: "tcp", ProtocolNumber.udp: "udp",
                ProtocolNumber.icmpv6: "icmpv6",
            ]
            let name = names[next] ?? "protocol \(next)"
            guard next == ProtocolNumber.tcp || next == ProtocolNumber.udp, !isLaterFragment,
                rest.count >= Ports.byteCount
            else {
                return "\(source.text) > \(destination.text) \(name)"
                    + (isLaterFragment ? " fragment" : "")
            }
            let ports = rest.ports(at: 0)
            return "\(endpoint(source, ports.source)) > \(endpoint(destination, ports.destination)) \(name)"
        }

        private func endpoint(_ address: Address, _ port: UInt16) -> String {
            address.isIPv4 ? "\(address.text):\(port)" : "[\(address.text)]:\(port)"
        }
    }
}
