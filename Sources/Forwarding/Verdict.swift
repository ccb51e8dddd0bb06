// What becomes of a frame. Every refusal has a name, which is a counter and a row in docs/counters.md.

/// Why a frame was refused. The order is the order of precedence: a frame that is wrong in two
/// ways has the reason that stands first. Spelled as `skb_drop_reason` where the kernel has one.
public enum DropReason: UInt8, CaseIterable, Sendable, Comparable {
    case none = 0
    case packetTooSmall
    case invalidHeader
    case invalidChecksum
    case badExtensionHeader
    case sourceRoute
    case fragmentOverlap
    case duplicateFragment
    case fragmentMemoryLimit
    case fragmentsDisabled
    case remoteNotAllowed
    case modeNotAllowed
    case tunnelECN
    case nestedTunnel
    case ttlExpired
    case invalidSource
    case localSource
    case reversePath
    case invalidDestination
    case destinationNotAllowed
    case packetTooBig
    case rateLimit
    case deviceFull
    case deviceError
    case gsoInvalid

    /// The spelling in verdicts, metrics and documents.
    public var name: String {
        switch self {
        case .none: "none"
        case .packetTooSmall: "pkt_too_small"
        case .invalidHeader: "ip_inhdr"
        case .invalidChecksum: "ip_csum"
        case .badExtensionHeader: "ipv6_bad_exthdr"
        case .sourceRoute: "ip_source_route"
        case .fragmentOverlap: "frag_overlap"
        case .duplicateFragment: "dup_frag"
        case .fragmentMemoryLimit: "frag_mem_limit"
        case .fragmentsDisabled: "frag_disabled"
        case .remoteNotAllowed: "remote_not_allowed"
        case .modeNotAllowed: "mode_not_allowed"
        case .tunnelECN: "ip_tunnel_ecn"
        case .nestedTunnel: "tunnel_nested"
        case .ttlExpired: "ip_ttl"
        case .invalidSource: "ip_invalid_source"
        case .localSource: "ip_local_source"
        case .reversePath: "ip_rpfilter"
        case .invalidDestination: "ip_invalid_dest"
        case .destinationNotAllowed: "destination_not_allowed"
        case .packetTooBig: "pkt_too_big"
        case .rateLimit: "rate_limit"
        case .deviceFull: "device_full"
        case .deviceError: "device_error"
        case .gsoInvalid: "gso_invalid"
        }
    }

    @inlinable @inline(__always)
    public static func < (left: DropReason, right: DropReason) -> Bool {
        left.rawValue < right.rawValue
    }
}

public struct Verdict {
    public enum Kind: UInt8, CaseIterable, Sendable {
        case inject, pass, hold, drop, reply
    }

    /// No tunnel, destination or ECN cell.
    public static let noIndex = UInt16.max
    public static let noCell = UInt8.max

    public var kind: Kind
    /// `.none` unless `drop` or `reply`.
    public var reason: DropReason
    public var mode: Mode
    /// inner ECN << 2 | outer ECN, once both were read; `noCell` before.
    public var ecnCell: UInt8
    /// An MSS option was lowered.
    public var clampedMSS: Bool
    /// A SYN whose TCP options could not be read, or what may be one in a tiny first fragment,
    /// so that its MSS stayed as it was.
    public var unclampedMSS: Bool
    /// Index into the policy's tunnels, or `noIndex`.
    public var tunnel: UInt16
    /// Index into the policy's devices.
    public var device: UInt16
    /// Ordinal among the destinations of all tunnels in order, or `noIndex`.
    public var destination: UInt16
    /// Bytes at the start of the inner packet that stand, rewritten, in `Frame.head`.
    public var headLength: UInt16
    /// The inner packet, from `Frame.network` on, in bytes.
    public var offset: UInt32
    public var length: UInt32
    /// To be written before the inner packet; counts from its first byte.
    public var vnet: VirtioHeader
    /// What the joiner finds the packets of a flow by; see `Flow`. 0: not looked at yet.
    @usableFromInline var flow: UInt32

    @inlinable @inline(__always)
    init(
        kind: Kind, reason: DropReason = .none, mode: Mode = .ipip,
        tunnel: UInt16 = Verdict.noIndex
    ) {
        self.kind = kind
        self.reason = reason
        self.mode = mode
        self.tunnel = tunnel
        ecnCell = Verdict.noCell
        clampedMSS = false
        unclampedMSS = false
        device = 0
        destination = Verdict.noIndex
        headLength = 0
        offset = 0
        length = 0
        vnet = VirtioHeader()
        flow = 0
    }

    /// Whether both packets may be of one flow, once a joiner has looked at them.
    public func mayShareFlow(with other: UnsafePointer<Verdict>) -> Bool {
        flow == other.pointee.flow || flow == Flow.any
    }

    @inlinable @inline(__always)
    static var pass: Verdict { Verdict(kind: .pass) }
}

extension Verdict {
    /// Where the ECN cell goes in a fate.
    static let cellShift: UInt64 = 24
    /// The first eight bytes of a verdict that lets a packet through, without its ECN cell, as
    /// `checkLayout` has them.
    static func fate(_ mode: Mode, _ tunnel: UInt16) -> UInt64 {
        UInt64(Kind.inject.rawValue) | UInt64(DropReason.none.rawValue) << 8
            | UInt64(mode.rawValue) << 16 | UInt64(tunnel) << 48
    }

    /// That the fields lie as `accept` writes and `hasFate` reads them.
    static func checkLayout() {
        precondition(
            MemoryLayout<Verdict>.offset(of: \.kind) == 0
                && MemoryLayout<Verdict>.offset(of: \.mode) == 2
                && MemoryLayout<Verdict>.offset(of: \.ecnCell) == 3
                && MemoryLayout<Verdict>.offset(of: \.tunnel) == 6
                && MemoryLayout<Verdict>.offset(of: \.device) == 8
                && MemoryLayout<Verdict>.offset(of: \.destination) == 10
                && MemoryLayout<Verdict>.offset(of: \.headLength) == 12
                && MemoryLayout<Verdict>.offset(of: \.offset) == 16
                && MemoryLayout<Verdict>.offset(of: \.length) == 20
                && MemoryLayout<Verdict>.offset(of: \.vnet) == 24
                && MemoryLayout<Verdict>.offset(of: \.flow) == 36)
    }
}

extension UnsafeMutablePointer where Pointee == Verdict {
    /// Whether both are counted alike: they differ at most in where the packet lies.
    @inlinable @inline(__always)
    public func hasFate(of other: UnsafeMutablePointer<Verdict>) -> Bool {
        let (one, two) = (UnsafeRawPointer(self), UnsafeRawPointer(other))
        // Kind to tunnel, then device and destination. A verdict lies at a multiple of 4 bytes.
        return one.loadUnaligned(as: UInt64.self) == two.loadUnaligned(as: UInt64.self)
            && one.load(fromByteOffset: 8, as: UInt32.self)
                == two.load(fromByteOffset: 8, as: UInt32.self)
    }

    /// Writes the verdict of a packet that goes on unchanged, in words.
    /// - Parameter fate: `Verdict.fate` with the ECN cell.
    /// - Parameter way: `DestinationRule.way`.
    @inline(__always)
    func accept(fate: UInt64, way: UInt32, offset: Int, length: Int, flow: UInt32) {
        let memory = UnsafeMutableRawPointer(self)
        memory.storeBytes(of: fate.littleEndian, as: UInt64.self)
        // With no head.
        memory.storeBytes(of: UInt64(way).littleEndian, toByteOffset: 8, as: UInt64.self)
        pointee.offset = UInt32(truncatingIfNeeded: offset)
        pointee.length = UInt32(truncatingIfNeeded: length)
        // No `vnet`: the slot holds what an earlier frame left there.
        memory.storeBytes(of: 0, toByteOffset: 24, as: UInt64.self)
        memory.storeBytes(of: 0, toByteOffset: 32, as: UInt16.self)
        pointee.flow = flow
    }
}
