// What a worker has found of outer headers and of pairs of inner addresses, so that the next packet
// of the same need not be looked up again, and which flows a batch holds. One worker's.

import IP

/// A direct-mapped table of outer headers, and two of inner addresses; emptied for each generation of tables.
public struct OuterCache: @unchecked Sendable, BitwiseCopyable {
    /// Source and destination as they lie in an IPv6 header; IPv4's are in `first` alone.
    struct Addresses: Equatable, BitwiseCopyable {
        var first: UInt64
        var second: UInt64
        var third: UInt64
        var fourth: UInt64

        @inline(__always)
        init(_ header: IPv6Header) {
            (first, second) = (header.rawSourceHigh, header.rawSourceLow)
            (third, fourth) = (header.rawDestinationHigh, header.rawDestinationLow)
        }

        init(_ header: IPv4Header) { (first, second, third, fourth) = (header.rawAddresses, 0, 0, 0) }
    }

    /// An outer header that the judge has matched to tunnels.
    struct Entry: BitwiseCopyable {
        var addresses: Addresses
        /// `arrival` of a frame for us; 0: empty.
        var arrival: UInt64
        /// `Verdict.fate` of what comes by this header and has no ECN bits, by inner family.
        var fate4: UInt64 = 0
        var fate6: UInt64 = 0
        /// What inner addresses are checked against, or `noScope`: the tunnel is not known.
        var scope4 = noScope
        var scope6 = noScope
    }

    /// Inner addresses that may pass in a scope.
    struct Pair<Key: Equatable & BitwiseCopyable>: BitwiseCopyable {
        /// IPv4: both addresses as they lie in the header. IPv6: `Addresses`.
        var key: Key
        /// 0: empty.
        var scope: UInt32
        /// Where the rules of the destination begin, in bytes.
        var rule: UInt32
    }

    private struct Head: BitwiseCopyable {
        /// Mixed with the hashes of the flows that this batch holds.
        var batch: UInt32
        /// Whether two packets of the batch may be of one flow.
        var isRepeated: Bool
        /// Of the pairs that count.
        var generation: UInt32
        // Of the batch's policy. A pointer to the policy would take a register, or a load per packet.
        var untouchedCells: UInt32 = 0
        var rules: UnsafePointer<DestinationRule>?
    }

    /// No pair has it.
    static let noScope = UInt32.max
    private static let entryBits = 6
    private static let pairBits = 14
    /// Bytes of each entry and pair.
    private static let entryBytes = 64
    private static let pair4Bytes = 16
    private static let pair6Bytes = 64
    // The tables lie one behind the other, so that one register finds them all; those of pairs at
    // multiples of 128, so that both places of a pair are theirs.
    private static let flowStart = entryBytes << entryBits
    private static let pair4Start = flowStart + 256 * 4
    private static let pair6Start = pair4Start + pair4Bytes << pairBits
    private static let headStart = pair6Start + pair6Bytes << pairBits
    /// Bits 31…22 of a scope; 21…14 the interface, 13…0 the tunnel. 0 is of no generation.
    private static let generations: UInt32 = 1023
    private static let interfaceShift: UInt32 = 14

    /// Outer headers, flows, pairs, a `Head`.
    private let memory: UnsafeMutableRawPointer

    /// Bytes that it lies in, at a multiple of 128.
    public static let byteCount = headStart + 64

    /// In memory of `byteCount` bytes that outlives it.
    public init(in memory: UnsafeMutableRawPointer) {
        Frame.checkLayout()
        Verdict.checkLayout()
        precondition(
            Limits.interfaces.value <= 1 << (22 - Self.interfaceShift)
                && Limits.tunnels.value < 1 << Self.interfaceShift)
        precondition(
            MemoryLayout<Entry>.stride == Self.entryBytes
                && MemoryLayout<Pair<UInt64>>.stride == Self.pair4Bytes
                && MemoryLayout<Pair<Addresses>>.stride <= Self.pair6Bytes
                && Self.pair4Start % 128 == 0 && Self.pair6Start % 128 == 0)
        self.memory = memory
        (memory + Self.headStart).initializeMemory(
            as: Head.self,
            repeating: Head(batch: 0, isRepeated: true, generation: Self.generations), count: 1)
        (memory + Self.flowStart).initializeMemory(as: UInt32.self, repeating: 0, count: 256)
        empty()
    }

    @inline(__always)
    private var head: UnsafeMutablePointer<Head> {
        (memory + Self.headStart).assumingMemoryBound(to: Head.self)
    }

    /// Forgets everything. Pairs of another generation stay where they are and match nothing.
    public func empty() {
        memory.initializeMemory(as: UInt8.self, repeating: 0, count: Self.flowStart)
        if head.pointee.generation == Self.generations {
            head.pointee.generation = 0
            (memory + Self.pair4Start).initializeMemory(
                as: UInt8.self, repeating: 0, count: Self.headStart - Self.pair4Start)
        }
        head.pointee.generation += 1
    }

    /// Forgets the flows of the batch before, by another number to mix them with, and keeps what each packet
    /// needs of the policy.
    @inline(__always)
    func beginBatch(_ policy: PolicyView) {
        head.pointee.untouchedCells = UInt32(policy.untouchedCells)
        head.pointee.rules = policy.rules
        head.pointee.batch &+= 0x9e37_79b9
        head.pointee.isRepeated = false
    }

    /// `PolicyView.untouchedCells` of the batch.
    @inline(__always)
    var untouchedCells: UInt32 { head.pointee.untouchedCells }

    /// `PolicyView.rules` of the batch, which `beginBatch` has set.
    @inline(__always)
    var rules: UnsafePointer<DestinationRule> { head.pointee.rules.unsafelyUnwrapped }

    /// Notes the flow of a packet that goes on. A hash collision can hide a repeated flow, which is then
    /// not coalesced.
    @inline(__always)
    func note(flow: UInt32) {
        let key = flow ^ head.pointee.batch
        let slot = (memory + (Self.flowStart &+ Int(key &>> 24) &* 4))
            .assumingMemoryBound(to: UInt32.self)
        if slot.pointee == key { head.pointee.isRepeated = true }
        slot.pointee = key
    }

    /// A packet whose flow is not known yet goes on.
    func noteAnyFlow() { head.pointee.isRepeated = true }

    /// Whether the batch that was judged last may hold two packets of one flow.
    @inline(__always)
    var mayHoldRuns: Bool { head.pointee.isRepeated }

    /// Fibonacci hashing: the top bits of the product are well mixed.
    @inline(__always)
    private func slot<T>(
        _ key: UInt64, from start: Int, bits: Int, bytes: Int
    ) -> UnsafeMutablePointer<T> {
        let shift = UInt64(64 &- bits &- bytes.trailingZeroBitCount)
        let offset = (key &* 0x9e37_79b9_7f4a_7c15) &>> shift & ~UInt64(bytes &- 1)
        return (memory + (start &+ Int(truncatingIfNeeded: offset))).assumingMemoryBound(to: T.self)
    }

    @inline(__always)
    func entry(_ key: UInt64) -> UnsafeMutablePointer<Entry> {
        slot(key, from: 0, bits: Self.entryBits, bytes: Self.entryBytes)
    }

    @inline(__always)
    func pair4(_ key: UInt64) -> UnsafeMutablePointer<Pair<UInt64>> {
        slot(key, from: Self.pair4Start, bits: Self.pairBits, bytes: Self.pair4Bytes)
    }

    @inline(__always)
    func pair6(_ key: UInt64) -> UnsafeMutablePointer<Pair<Addresses>> {
        slot(key, from: Self.pair6Start, bits: Self.pairBits, bytes: Self.pair6Bytes)
    }

    /// The other slot for what belongs in one.
    @inline(__always)
    static func neighbour<Key>(_ pair: UnsafeMutablePointer<Pair<Key>>) -> UnsafeMutablePointer<Pair<Key>> {
        let bytes = UInt(MemoryLayout<Key>.size == 8 ? pair4Bytes : pair6Bytes)
        return UnsafeMutablePointer(bitPattern: UInt(bitPattern: pair) ^ bytes)!
    }

    /// Whether both are of one generation.
    @inline(__always)
    static func isAlive(_ scope: UInt32, _ current: UInt32) -> Bool {
        (scope ^ current) >> 22 == 0
    }

    @inline(__always)
    static func tunnel(_ scope: UInt32) -> Int { Int(scope & 0x3fff) }

    /// Remembers the tunnel of a frame that the judge let in.
    package func insert(_ frame: UnsafePointer<Frame>, tunnel: UInt16) {
        let header = Bytes(frame.pointee.network, count: frame.pointee.length)
        let isIPv4 = frame.pointee.etherType == EtherType.ipv4
        let number = isIPv4 ? header.ipv4.protocolNumber : header.ipv6.nextHeader
        guard ProtocolNumber.isTunnel(number) else { return }
        let arrival = frame.arrival
        let addresses = isIPv4 ? Addresses(header.ipv4) : Addresses(header.ipv6)
        let entry = entry(isIPv4 ? addresses.first : addresses.second)
        if entry.pointee.arrival != arrival || entry.pointee.addresses != addresses {
            entry.pointee = Entry(addresses: addresses, arrival: arrival)
        }
        let scope =
            head.pointee.generation << 22 | UInt32(frame.pointee.interface) << Self.interfaceShift
            | UInt32(tunnel)
        if number == ProtocolNumber.ipv4 {
            entry.pointee.scope4 = scope
            entry.pointee.fate4 = Verdict.fate(isIPv4 ? .ipip : .ipip6, tunnel)
        } else {
            entry.pointee.scope6 = scope
            entry.pointee.fate6 = Verdict.fate(isIPv4 ? .ip6ip : .ip6ip6, tunnel)
        }
    }
}
