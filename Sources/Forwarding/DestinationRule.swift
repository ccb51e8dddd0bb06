// A rule of `destinations` as the judge reads it.

struct DestinationRule: BitwiseCopyable {
    static let anyProtocol: UInt16 = 0xffff
    /// Values of `mss` beside a fixed number of bytes.
    static let mssInherited: UInt16 = 0
    static let mssOff: UInt16 = 1
    static let mssAuto: UInt16 = 2

    var protocolNumber: UInt16
    var portCount: UInt16
    var firstPort: UInt32
    /// Bytes of the largest packet that the device takes; `anySize` where the kernel sees to it.
    var mtu: UInt32
    /// `device`, and in the upper half `index`: as they stand in a verdict.
    var way: UInt32
    var mss: UInt16

    var device: UInt16 { UInt16(truncatingIfNeeded: way) }
    /// Ordinal among the destinations of all tunnels, or `Verdict.noIndex`.
    var index: UInt16 { UInt16(truncatingIfNeeded: way >> 16) }

    static let anySize = UInt32.max

    static func way(device: Int, index: UInt16) -> UInt32 { UInt32(index) << 16 | UInt32(device) }

    @inline(__always)
    static func at(
        _ rules: UnsafePointer<DestinationRule>, _ byteOffset: UInt32
    ) -> UnsafePointer<DestinationRule> {
        (UnsafeRawPointer(rules) + Int(byteOffset)).assumingMemoryBound(to: DestinationRule.self)
    }

    /// Behind the last rule of a list: takes everything, in no size.
    static let end = DestinationRule(
        protocolNumber: anyProtocol, portCount: 0, firstPort: 0, mtu: 0,
        way: way(device: 0, index: Verdict.noIndex), mss: mssInherited)
}
