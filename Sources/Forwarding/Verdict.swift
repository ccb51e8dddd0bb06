// What becomes of a frame.

import IP

public struct Verdict {
    public enum Kind: UInt8, CaseIterable, Sendable {
        case inject, pass, hold, drop, reply
    }

    /// No tunnel, destination or ECN cell.
    public static let noIndex = UInt16.max
    public static let noCell = UInt8.max

    public var kind: Kind
    /// `.none` unless `drop` or `reply`.
    public var reason = DropReason.none
    public var mode = Mode.ipip
    /// inner ECN << 2 | outer ECN, once both were read; `noCell` before.
    public var ecnCell = noCell
    /// An MSS option was lowered.
    public var clampedMSS = false
    /// A SYN whose TCP options could not be read, or what may be one in a tiny first fragment,
    /// so that its MSS stayed as it was.
    public var unclampedMSS = false
    /// Index into the policy's tunnels, or `noIndex`.
    public var tunnel = noIndex
    /// Index into the policy's devices.
    public var device: UInt16 = 0
    /// Ordinal among the destinations of all tunnels in order, or `noIndex`.
    public var destination = noIndex
    /// Bytes at the start of the inner packet that stand, rewritten, in `Frame.head`.
    public var headLength: UInt16 = 0
    /// The inner packet, from `Frame.network` on, in bytes.
    public var offset: UInt32 = 0
    public var length: UInt32 = 0
    /// To be written before the inner packet; counts from its first byte.
    public var vnet = VirtioHeader()
    /// What the coalescer finds the packets of a flow by; see `Flow`. 0: not looked at yet.
    var flow: UInt32 = 0

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

extension Verdict {
    /// Copies at least `length` bytes of the inner packet into the frame's head, once.
    mutating func openHead(_ frame: UnsafePointer<Frame>, _ packet: Bytes, _ length: Int) {
        guard Int(headLength) < length else { return }
        assert(length <= Limits.headBytes && length <= packet.count)
        frame.pointee.head.copyMemory(from: packet.base, byteCount: length)
        headLength = UInt16(truncatingIfNeeded: length)
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
