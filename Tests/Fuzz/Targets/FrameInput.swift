// How bytes are a frame: which policy, how it came in, its offload header, then link layer and packet.

import Forwarding
import IP
import Model

struct FrameInput {
    static let preludeBytes = 14

    var world = 0
    var link = LinkType.ethernet
    var interface = 0
    var cut = 0
    var vnet = VirtioHeader()
    /// Link layer included.
    var bytes: [UInt8] = []

    private static let links: [LinkType] = [.ethernet, .raw, .linuxCooked, .linuxCooked2]

    /// nil when there is not even a prelude.
    init?(_ input: UnsafeRawBufferPointer, copiesBytes: Bool = true) {
        guard input.count >= Self.preludeBytes else { return nil }
        func u16(_ offset: Int) -> UInt16 { UInt16(input[offset]) | UInt16(input[offset + 1]) << 8 }
        world = Int(input[0])
        link = Self.links[Int(input[1]) % 4]
        interface = Int(input[2])
        cut = Int(input[3])
        vnet = VirtioHeader(
            flags: input[4], gsoType: input[5], headerLength: u16(6), gsoSize: u16(8),
            checksumStart: u16(10), checksumOffset: u16(12))
        if copiesBytes { bytes = Array(input[Self.preludeBytes...]) }
    }

    init(_ arrival: Arrival, world: Int) {
        self.world = world
        interface = arrival.interface
        cut = arrival.cut
        vnet = arrival.vnet
        let type = [UInt8(arrival.etherType >> 8), UInt8(arrival.etherType & 255)]
        let zeros = [UInt8](repeating: 0, count: 14)
        switch arrival.linkLength {
        case 0: link = .raw
        case 16:
            link = .linuxCooked
            bytes = [0, arrival.isForUs ? 0 : 3] + zeros[..<12] + type
        case 20:
            link = .linuxCooked2
            bytes = type + zeros[..<8] + [arrival.isForUs ? 0 : 3] + zeros[..<9]
        default: bytes = zeros[..<12] + type
        }
        bytes += arrival.bytes
    }

    var input: [UInt8] {
        func le(_ value: UInt16) -> [UInt8] { [UInt8(value & 255), UInt8(value >> 8)] }
        return [
            UInt8(truncatingIfNeeded: world), UInt8(Self.links.firstIndex(of: link)!),
            UInt8(truncatingIfNeeded: interface), UInt8(truncatingIfNeeded: cut), vnet.flags,
            vnet.gsoType,
        ] + le(vnet.headerLength) + le(vnet.gsoSize) + le(vnet.checksumStart)
            + le(vnet.checksumOffset) + bytes
    }

    /// What the link layer says, as a driver of the judge reads it.
    func arrival(interfaces: Int) -> Arrival {
        let parsed = bytes.withUnsafeBytes { link.parse($0) ?? ($0.count, 0, false) }
        var arrival = Arrival()
        arrival.bytes = Array(bytes[parsed.length...])
        arrival.cut = cut
        arrival.linkLength = parsed.length
        arrival.etherType = parsed.etherType
        arrival.interface = interface % interfaces
        arrival.isForUs = parsed.isForUs
        arrival.vnet = vnet
        return arrival
    }

    var linkLength: Int {
        switch link {
        case .ethernet: 14
        case .raw: 0
        case .linuxCooked: 16
        case .linuxCooked2: 20
        }
    }
}
