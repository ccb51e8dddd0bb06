// What a worker has found of outer headers and of pairs of inner addresses, so that the next packet
// of the same need not be looked up again, and which flows a batch holds. One worker's.

import IP

/// A direct-mapped table of outer headers, and two of inner addresses; emptied for each new world.
public struct OuterCache: @unchecked Sendable, BitwiseCopyable {
    /// An outer header that the judge has matched to tunnels.
    struct Outer: BitwiseCopyable {
        /// Source and destination as they lie in the header: IPv4 in `first` alone.
        var first: UInt64
        var second: UInt64
        var third: UInt64
        var fourth: UInt64
        /// `arrival` of a frame for us; 0: empty.
        var arrival: UInt64
        /// `Verdict.fateWord` of what comes by this header and has no ECN bits, by inner family.
        var fate4: UInt64
        var fate6: UInt64
        /// What inner addresses are checked against, or `noScope`: the tunnel is not known.
        var scope4: UInt32
        var scope6: UInt32
    }

    /// Inner addresses, as they lie in the header, that may pass in a scope.
    struct Pair4: BitwiseCopyable {
        var addresses: UInt64
        /// 0: empty.
        var scope: UInt32
        /// Where the rules of the destination begin, in bytes.
        var rule: UInt32
    }

    /// 40 bytes of a cache line.
    struct Pair6: BitwiseCopyable {
        var first: UInt64
        var second: UInt64
        var third: UInt64
        var fourth: UInt64
        var scope: UInt32
        var rule: UInt32
    }

    private struct Head: BitwiseCopyable {
        /// Mixed with the hashes of the flows that this batch holds.
        var batch: UInt32
        /// Whether two packets of the batch may be of one flow.
        var isRepeated: Bool
        /// Of the pairs that count.
        var generation: UInt32
    }

    /// No pair has it.
    static let noScope = UInt32.max
    private static let outers = 64
    private static let pairBits: UInt64 = 14
    // The tables lie one behind the other, so that one register finds them all; those of pairs at
    // multiples of 128, so that both places of a pair are theirs.
    private static let flowStart = outers * 64
    private static let pair4Start = flowStart + 256 * 4
    private static let pair6Start = pair4Start + 16 << Int(pairBits)
    private static let headStart = pair6Start + 64 << Int(pairBits)
    /// Bits 31…22 of a scope; 21…14 the interface, 13…0 the tunnel. 0 is of no generation.
    private static let generations: UInt32 = 1023
    private static let interfaceShift: UInt32 = 14

    /// Outer headers, flows, pairs, a `Head`.
    private let memory: UnsafeMutableRawPointer

    /// Bytes that it lies in, at a multiple of 128.
    public static let byteCount = headStart + 64

    /// To be deallocated.
    public init() { self.init(in: .allocate(byteCount: Self.byteCount, alignment: 128)) }

    /// In memory of `byteCount` bytes that outlives it.
    public init(in memory: UnsafeMutableRawPointer) {
        Frame.checkLayout()
        Verdict.checkLayout()
        precondition(
            Limits.interfaces <= 1 << (22 - Self.interfaceShift)
                && Limits.tunnels < 1 << Self.interfaceShift)
        precondition(
            MemoryLayout<Outer>.stride == 64 && MemoryLayout<Pair4>.stride == 16
                && MemoryLayout<Pair6>.stride <= 64
                && Self.pair4Start % 128 == 0 && Self.pair6Start % 128 == 0)
        self.memory = memory
        (memory + Self.headStart).initializeMemory(
            as: Head.self,
            repeating: Head(batch: 0, isRepeated: true, generation: Self.generations), count: 1)
        (memory + Self.flowStart).initializeMemory(as: UInt32.self, repeating: 0, count: 256)
        empty()
    }

    public func deallocate() { memory.deallocate() }

    @inline(__always)
    private var head: UnsafeMutablePointer<Head> {
        (memory + Self.headStart).assumingMemoryBound(to: Head.self)
    }

    /// Forgets everything. Pairs of another generation stay where they are and match nothing.
    public func empty() {
        memory.initializeMemory(as: UInt8.self, repeating: 0, count: Self.outers * 64)
        if head.pointee.generation == Self.generations {
            head.pointee.generation = 0
            (memory + Self.pair4Start).initializeMemory(
                as: UInt8.self, repeating: 0, count: Self.headStart - Self.pair4Start)
        }
        head.pointee.generation += 1
    }

    /// Forgets the flows of the batch before, by another number to mix them with.
    @inline(__always)
    func beginBatch() {
        head.pointee.batch &+= 0x9e37_79b9
        head.pointee.isRepeated = false
    }

    /// Notes the flow of a packet that goes on. Two that share a place may be missed, and are then
    /// not joined.
    @inline(__always)
    func note(flow: UInt32) {
        let key = flow ^ head.pointee.batch
        let place = (memory + (Self.flowStart &+ Int(key &>> 24) &* 4))
            .assumingMemoryBound(to: UInt32.self)
        if place.pointee == key { head.pointee.isRepeated = true }
        place.pointee = key
    }

    /// A packet whose flow is not known yet goes on.
    func noteAnyFlow() { head.pointee.isRepeated = true }

    /// Whether the batch that was judged last may hold two packets of one flow.
    @inline(__always)
    var mayHoldRuns: Bool { head.pointee.isRepeated }

    // Fibonacci hashing: the top bits of the product are well mixed.
    private static let factor: UInt64 = 0x9e37_79b9_7f4a_7c15

    @inline(__always)
    func place(_ key: UInt64) -> UnsafeMutablePointer<Outer> {
        let offset = (key &* Self.factor) &>> 52 & ~63
        return (memory + Int(truncatingIfNeeded: offset)).assumingMemoryBound(to: Outer.self)
    }

    @inline(__always)
    func place4(_ key: UInt64) -> UnsafeMutablePointer<Pair4> {
        let offset = (key &* Self.factor) &>> (60 - Self.pairBits) & ~15
        return (memory + (Self.pair4Start &+ Int(truncatingIfNeeded: offset)))
            .assumingMemoryBound(to: Pair4.self)
    }

    @inline(__always)
    func place6(_ key: UInt64) -> UnsafeMutablePointer<Pair6> {
        let offset = (key &* Self.factor) &>> (58 - Self.pairBits) & ~63
        return (memory + (Self.pair6Start &+ Int(truncatingIfNeeded: offset)))
            .assumingMemoryBound(to: Pair6.self)
    }

    /// The other place for what belongs at one.
    @inline(__always)
    static func neighbour(_ pair: UnsafeMutablePointer<Pair4>) -> UnsafeMutablePointer<Pair4> {
        UnsafeMutablePointer(bitPattern: UInt(bitPattern: pair) ^ 16)!
    }

    @inline(__always)
    static func neighbour(_ pair: UnsafeMutablePointer<Pair6>) -> UnsafeMutablePointer<Pair6> {
        UnsafeMutablePointer(bitPattern: UInt(bitPattern: pair) ^ 64)!
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
        let entry = place(isIPv4 ? header.ipv4.rawAddresses : header.ipv6.rawSourceLow)
        let key =
            isIPv4
            ? (header.ipv4.rawAddresses, 0, 0, 0)
            : (
                header.ipv6.rawSourceHigh, header.ipv6.rawSourceLow, header.ipv6.rawDestinationHigh,
                header.ipv6.rawDestinationLow
            )
        let old = entry.pointee
        if old.arrival != arrival || (old.first, old.second, old.third, old.fourth) != key {
            entry.pointee = Outer(
                first: key.0, second: key.1, third: key.2, fourth: key.3, arrival: arrival,
                fate4: 0, fate6: 0, scope4: Self.noScope, scope6: Self.noScope)
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
