// A frame that is sent again and again, with other marks each time: Template, Marks, Layout.

import Forwarding
import IP

/// What differs between two frames of one template.
struct Marks: BitwiseCopyable {
    /// Of the inner IPv4 header.
    var identification: UInt16 = 0
    /// Of the inner TCP header.
    var sequence: UInt32 = 0
    /// The first eight bytes of the payload: the frame's number.
    var tag: UInt64 = 0
}

/// Where an inner packet has its marks, in bytes from its start.
struct Layout: BitwiseCopyable {
    /// nil: IPv6, or a packet that is always the same.
    var identification: Int?
    var sequence: Int?
    var tag: Int?
    /// The transport checksum that covers the marks; nil: none does.
    var checksum: Int?
    var isUDP = false

    /// A packet that is always the same.
    static let fixed = Layout()
}

/// Inner packet with all marks zero, and its two checksums.
struct Sums: BitwiseCopyable {
    var header: UInt16 = 0
    var transport: UInt16 = 0

    init() {}

    /// - Parameter packet: its marks are zero.
    init(_ packet: UnsafeRawPointer, _ layout: Layout) {
        if layout.identification != nil { header = bigEndian(packet, 10) }
        if let place = layout.checksum { transport = bigEndian(packet, place) }
    }
}

@inline(__always)
func bigEndian(_ base: UnsafeRawPointer, _ offset: Int) -> UInt16 {
    UInt16(bigEndian: base.loadUnaligned(fromByteOffset: offset, as: UInt16.self))
}

@inline(__always)
func store(_ value: UInt16, _ base: UnsafeMutableRawPointer, _ offset: Int) {
    base.storeBytes(of: value.bigEndian, toByteOffset: offset, as: UInt16.self)
}

@inline(__always)
func folded(_ sum: UInt64) -> UInt16 {
    var sum = sum
    while sum > 0xffff { sum = (sum &>> 16) &+ (sum & 0xffff) }
    return UInt16(truncatingIfNeeded: sum)
}

/// The one's complement sum (RFC 1071) of bytes, in network byte order.
@inline(__always)
func onesSum(_ base: UnsafeRawPointer, _ count: Int) -> UInt16 {
    var sum: UInt64 = 0
    var offset = 0
    while offset &+ 8 <= count {
        let word = base.loadUnaligned(fromByteOffset: offset, as: UInt64.self)
        sum &+= (word & 0xffff_ffff) &+ (word &>> 32)
        offset &+= 8
    }
    while offset &+ 2 <= count {
        sum &+= UInt64(base.loadUnaligned(fromByteOffset: offset, as: UInt16.self))
        offset &+= 2
    }
    if offset < count { sum &+= UInt64(base.load(fromByteOffset: offset, as: UInt8.self)) }
    // The sum of swapped words is the swapped sum.
    return UInt16(bigEndian: folded(sum))
}

extension Marks {
    /// Writes them to an inner packet whose marks are zero, and brings its checksums up to date.
    @inline(__always)
    func write(to packet: UnsafeMutableRawPointer, _ layout: Layout, _ sums: Sums) {
        var sum = UInt64(~sums.transport)
        if let place = layout.identification {
            store(identification, packet, place)
            store(~folded(UInt64(~sums.header) &+ UInt64(identification)), packet, 10)
        }
        if let place = layout.sequence {
            packet.storeBytes(of: sequence.bigEndian, toByteOffset: place, as: UInt32.self)
            sum &+= UInt64(sequence)
        }
        if let place = layout.tag {
            packet.storeBytes(of: tag.bigEndian, toByteOffset: place, as: UInt64.self)
            sum &+= (tag &>> 32) &+ (tag & 0xffff_ffff)
        }
        guard let place = layout.checksum else { return }
        let value = ~folded(sum)
        store(layout.isUDP && value == 0 ? 0xffff : value, packet, place)
    }
}

extension UnsafeMutableRawPointer {
    func copyBytes(of array: [UInt8]) {
        array.withUnsafeBytes { if let base = $0.baseAddress { copyMemory(from: base, byteCount: $0.count) } }
    }
}

struct Template: BitwiseCopyable {
    /// From the network header on, marks zero.
    let bytes: UnsafeMutableRawPointer
    let count: Int
    /// Bytes before the inner packet.
    let innerOffset: Int
    let layout: Layout
    let sums: Sums
    let linkLength: Int
    let etherType: UInt16
    let interface: Int
    let isForUs: Bool
    let vnet: VirtioHeader
    /// -1: none.
    let flow: Int
    /// TCP payload.
    let step: UInt32
    /// The answer depends on what came before: a fragment.
    let hasState: Bool
    /// The transport checksum is still to be finished.
    let isUnfinished: Bool
    /// A fragment of an inner packet: of any flow between its addresses, as far as can be seen.
    let hidesPorts: Bool

    init(
        _ arrival: [UInt8], innerOffset: Int = 0, layout: Layout = .fixed, linkLength: Int = 14,
        etherType: UInt16, interface: Int, isForUs: Bool = true, vnet: VirtioHeader = VirtioHeader(),
        flow: Int = -1, step: Int = 0, hasState: Bool = false,
        hidesPorts: Bool = false
    ) {
        let memory = UnsafeMutableRawPointer.allocate(byteCount: max(arrival.count, 1), alignment: 64)
        memory.copyBytes(of: arrival)
        bytes = memory
        count = arrival.count
        self.innerOffset = innerOffset
        self.layout = layout
        sums =
            layout.checksum == nil && layout.identification == nil
            ? Sums() : Sums(bytes + innerOffset, layout)
        self.linkLength = linkLength
        self.etherType = etherType
        self.interface = interface
        self.isForUs = isForUs
        self.vnet = vnet
        self.flow = flow
        self.step = UInt32(step)
        self.hasState = hasState
        self.hidesPorts = hidesPorts
        isUnfinished = vnet.flags & VirtioHeader.needsChecksum != 0
    }
}
