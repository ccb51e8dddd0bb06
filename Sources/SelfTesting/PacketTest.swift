// PacketTest, packets that are sent to the node and what must come of each, and how what came is judged.

import Forwarding
import IP

/// Packets of the balancer that are sent one after the other, and what must come of them.
public struct PacketTest: Sendable {
    /// What must come of one packet, or of the fragments of one.
    public enum Fate: Hashable, Sendable {
        /// These bytes reach the pod.
        case arrives([UInt8])
        /// shuck drops it for this reason, as docs/counters.md has them.
        case dropped(String)
    }

    public struct Exchange: Sendable {
        /// What is special about it.
        public let what: String
        public let packets: [[UInt8]]
        public let fate: Fate
        let number: UInt32
    }

    public let name: String
    public let configuration: NodeConfiguration
    public private(set) var exchanges: [Exchange] = []

    init(_ name: String, _ configuration: NodeConfiguration = NodeConfiguration()) {
        self.name = name
        self.configuration = configuration
    }

    /// Adds a packet.
    /// - Parameter arriving: what the node's kernel forwards; nil: shuck drops it.
    mutating func add(
        _ what: String, _ inner: InnerPacket, _ outer: OuterHeader, arriving: InnerPacket?,
        reason: String = "", cuts: [Range<Int>]? = nil
    ) {
        let number = UInt32(exchanges.count + 1)
        var (inner, arriving) = (inner, arriving)
        inner.number = number
        arriving?.number = number
        let identification = UInt16(truncatingIfNeeded: number)
        exchanges.append(
            Exchange(
                what: what,
                packets: cuts.map { outer.wrap(inner.bytes, in: $0, identification: identification) }
                    ?? [outer.wrap(inner.bytes)],
                fate: arriving.map { .arrives($0.bytes) } ?? .dropped(reason), number: number))
    }

    /// Adds a packet that is allowed, with nothing special: when it has arrived, all before it are decided.
    mutating func close(from source: [Address] = TestNetwork.client) {
        let packet = InnerPacket.plain(.ipip, from: source)
        add(
            "the last packet, which is allowed", packet, TestNetwork.outerHeader(.ipip),
            arriving: packet.forwarded)
    }

    /// Frames by the reason for which shuck drops them.
    public var drops: [String: Int] {
        exchanges.reduce(into: [:]) { drops, exchange in
            if case .dropped(let reason) = exchange.fate { drops[reason, default: 0] += 1 }
        }
    }

    /// One per packet, one per reason, and one for the kernel of the node, which must not answer.
    public var checks: Int { exchanges.count + drops.count + 1 }

    /// Whether the last packet is among those that arrived.
    public func isOver(_ arrived: [[UInt8]]) -> Bool {
        guard let number = exchanges.last?.number else { return true }
        return arrived.contains { InnerPacket.number(of: $0) == number }
    }

    /// What is not as it must be, one sentence each.
    /// - Parameters:
    ///   - arrived: packets that the pod got.
    ///   - drops: frames that shuck dropped meanwhile, by reason.
    ///   - answers: ICMP errors of the node about outer packets.
    public func failures(arrived: [[UInt8]], drops: [String: Int], answers: Int) -> [String] {
        var failures = exchanges.compactMap { exchange in
            failure(exchange, arrived).map { "\(exchange.what): \($0)" }
        }
        for reason in Set(self.drops.keys).union(drops.keys).sorted() {
            let (counted, expected) = (drops[reason] ?? 0, self.drops[reason] ?? 0)
            if counted != expected {
                failures.append("\(counted) packets were dropped as \(reason), and \(expected) must be")
            }
        }
        if answers > 0 {
            failures.append("the kernel of the node answered \(answers) packets that are shuck's")
        }
        return failures
    }

    private func failure(_ exchange: Exchange, _ arrived: [[UInt8]]) -> String? {
        let same = arrived.filter { InnerPacket.number(of: $0) == exchange.number }
        switch exchange.fate {
        case .dropped(let reason):
            return same.isEmpty ? nil : "it reached the pod, and must be dropped as \(reason)"
        case .arrives(let bytes):
            guard let first = same.first else { return "it did not reach the pod" }
            if same.count > 1 { return "it reached the pod \(same.count) times" }
            guard first != bytes else { return nil }
            let place = zip(first, bytes).enumerated().first { $1.0 != $1.1 }
            guard let place else { return "it has \(first.count) bytes, and must have \(bytes.count)" }
            let (got, expected) = place.element
            return "byte \(place.offset) is \(Self.hex(got)), and must be \(Self.hex(expected))"
        }
    }

    private static func hex(_ byte: UInt8) -> String { "0x" + String(byte, radix: 16) }
}
