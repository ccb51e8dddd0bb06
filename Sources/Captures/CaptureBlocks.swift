// pcapng (draft-ietf-opsawg-pcapng), block by block: each packet with its own interface, whose name, link
// type and resolution the file tells. libpcap tells nothing of interfaces and refuses files of two kinds.

import Foundation
import IP

/// An interface that packets of a capture came in by.
public struct CaptureInterface: Sendable, Equatable {
    /// nil: the capture does not tell.
    public var name: String?
    public var link: LinkType
    /// Bytes of a packet at most; 0: any.
    var snapLength: UInt32 = 0
    /// Units of a timestamp a second: a power of ten, or of two.
    var unitsPerSecond: UInt64 = 1_000_000
    /// Seconds to be added.
    var offset: Int64 = 0

    /// Nanoseconds since 1970 of a timestamp; what lies before or beyond is taken as the first or
    /// the last that there is.
    func nanoseconds(_ units: UInt64) -> UInt64 {
        let (seconds, rest) = units.quotientAndRemainder(dividingBy: unitsPerSecond)
        // The rest is less than a second, so the quotient fits.
        let wide = rest.multipliedFullWidth(by: 1_000_000_000)
        let fraction = unitsPerSecond.dividingFullWidth((wide.high, wide.low)).quotient
        let (shifted, isBelow) =
            offset < 0
            ? seconds.subtractingReportingOverflow(offset.magnitude)
            : seconds.addingReportingOverflow(offset.magnitude)
        if isBelow { return offset < 0 ? 0 : .max }
        let (product, isBeyond) = shifted.multipliedReportingOverflow(by: 1_000_000_000)
        let (sum, isOver) = product.addingReportingOverflow(fraction)
        return isBeyond || isOver ? .max : sum
    }
}

// Numbers, and where a field stands from its block's body, its option or its section on.

/// Kinds of blocks.
private enum BlockKind {
    static let section: UInt32 = 0x0a0d_0d0a
    static let interface: UInt32 = 1
    /// Obsolete: its interface has 16 bits.
    static let packet: UInt32 = 2
    static let simplePacket: UInt32 = 3
    static let enhancedPacket: UInt32 = 6
}

/// Kind and length before the body, the length again behind it.
private enum BlockField {
    static let length = 4
    static let body = 8
    static let trailerBytes = 4
    /// Bytes of a block without a body.
    static let byteCount = body + trailerBytes
}

/// Behind the byte order.
private enum SectionField {
    static let version = 4
    static let byteCount = 16
}

private enum InterfaceField {
    static let linkType = 0
    static let snapLength = 4
    static let options = 8
}

private enum PacketField {
    static let interface = 0
    static let time = 4
    static let capturedLength = 12
    static let wireLength = 16
    static let bytes = 20
}

private enum SimplePacketField {
    static let wireLength = 0
    static let bytes = 4
}

private enum InterfaceOption {
    static let end: UInt16 = 0
    static let name: UInt16 = 2
    /// `if_tsresol`.
    static let resolution: UInt16 = 9
    /// `if_tsoffset`.
    static let timeOffset: UInt16 = 14
    static let length = 2
    static let value = 4
}

/// Reads a pcapng file whose first byte has not been taken yet.
final class CaptureBlocks {
    /// Bytes of a block at most, as libpcap has it, and of a packet.
    private static let blockBytesMax = 16 << 20
    private static let packetBytesMax = 262_144

    private let file: UnsafeMutablePointer<FILE>
    private(set) var interfaces: [CaptureInterface] = []
    private var isLittleEndian = true
    private var block: [UInt8] = []
    /// The body of the block that was read last, in `block`.
    private var body = 0..<0
    private var lastNanoseconds: UInt64 = 0
    private var isFirst = true
    /// Whether an interface so far has timestamps finer than microseconds.
    private(set) var isNanosecond = false
    /// What `next` gives before it reads on.
    private var pending: Result<Packet?, CaptureError>?

    /// Takes the file, which `deinit` closes.
    init(_ file: UnsafeMutablePointer<FILE>) { self.file = file }

    deinit { fclose(file) }

    struct Packet {
        var nanoseconds: UInt64
        /// Of `interfaces`.
        var interface: Int
        var bytes: Range<Int>
        var wireLength: Int
    }

    /// Goes on to the first packet, or to the end of the file: what stands before is known then.
    func readInterfaces() throws(CaptureError) {
        while interfaces.isEmpty, let kind = try readBlock() {
            if try packet(kind) != nil { throw Self.damage("a packet before its interface") }
        }
        if isFirst { throw Self.damage("the file is empty") }
        pending = Result { () throws(CaptureError) in try next() }
    }

    /// The next packet; nil at the end of the file.
    func next() throws(CaptureError) -> Packet? {
        if let pending {
            self.pending = nil
            return try pending.get()
        }
        while let kind = try readBlock() {
            if let packet = try packet(kind) { return packet }
        }
        return nil
    }

    /// Of the packet that was read last.
    func bytes(_ packet: Packet) -> ArraySlice<UInt8> { block[packet.bytes] }

    private static func damage(_ what: String) -> CaptureError {
        CaptureError(message: "the file is damaged: \(what)")
    }

    // MARK: blocks

    private func u16(_ offset: Int) -> UInt16 {
        let (first, second) = (UInt16(block[offset]), UInt16(block[offset + 1]))
        return isLittleEndian ? second << 8 | first : first << 8 | second
    }

    private func u32(_ offset: Int) -> UInt32 {
        let (first, second) = (UInt32(u16(offset)), UInt32(u16(offset + 2)))
        return isLittleEndian ? second << 16 | first : first << 16 | second
    }

    private func u64(_ offset: Int) -> UInt64 {
        UInt64(u32(offset)) << 32 | UInt64(u32(offset + 4))
    }

    /// Appends bytes of the file to `block`; false when it ends before the first.
    private func read(_ count: Int) throws(CaptureError) -> Bool {
        let start = block.count
        block.append(contentsOf: repeatElement(0, count: count))
        let got = block.withUnsafeMutableBytes { fread($0.baseAddress! + start, 1, count, file) }
        if got == count { return true }
        guard ferror(file) == 0 else {
            throw CaptureError(message: "cannot be read: \(String(cString: strerror(errno)))")
        }
        if got == 0 && start == 0 { return false }
        throw CaptureError(
            message: "truncated dump file; tried to read \(count) bytes, only got \(got)")
    }

    /// The kind of the next block, whose body is then at hand; nil at the end.
    private func readBlock() throws(CaptureError) -> UInt32? {
        block.removeAll(keepingCapacity: true)
        guard try read(BlockField.byteCount) else { return nil }
        // The same in either byte order.
        let isSection = u32(0) == BlockKind.section
        if isSection {
            switch Array(block[BlockField.body..<BlockField.byteCount]) {
            case [0x4d, 0x3c, 0x2b, 0x1a]: isLittleEndian = true
            case [0x1a, 0x2b, 0x3c, 0x4d]: isLittleEndian = false
            default: throw Self.damage("a section without a byte order")
            }
            interfaces = []
        } else if isFirst {
            throw Self.damage("it does not begin with a section")
        }
        isFirst = false
        let length = Int(u32(BlockField.length))
        guard length >= BlockField.byteCount, length % 4 == 0, length <= Self.blockBytesMax else {
            throw Self.damage("a block of \(length) bytes")
        }
        // A block without a body has its second length in the first twelve bytes.
        if length > BlockField.byteCount { _ = try read(length - BlockField.byteCount) }
        body = BlockField.body..<length - BlockField.trailerBytes
        guard u32(body.upperBound) == UInt32(length) else {
            throw Self.damage("a block with two lengths")
        }
        if isSection {
            guard body.count >= SectionField.byteCount, u16(body.lowerBound + SectionField.version) == 1
            else { throw Self.damage("an unknown version") }
        }
        return u32(0)
    }

    /// A packet, where the block is one; notes an interface, where it is one.
    private func packet(_ kind: UInt32) throws(CaptureError) -> Packet? {
        let start = body.lowerBound
        switch kind {
        case BlockKind.interface:
            try describe()
            return nil
        case BlockKind.packet, BlockKind.enhancedPacket:
            guard body.count >= PacketField.bytes else { throw Self.damage("a short packet block") }
            let place = start + PacketField.interface
            let number = kind == BlockKind.packet ? Int(u16(place)) : Int(u32(place))
            guard number < interfaces.count else {
                throw Self.damage("a packet of interface \(number), which is not described")
            }
            lastNanoseconds = interfaces[number].nanoseconds(u64(start + PacketField.time))
            return try packet(
                number, at: start + PacketField.bytes,
                count: Int(u32(start + PacketField.capturedLength)),
                wireLength: Int(u32(start + PacketField.wireLength)))
        case BlockKind.simplePacket:
            guard body.count >= SimplePacketField.bytes else {
                throw Self.damage("a short packet block")
            }
            guard let first = interfaces.first else { throw Self.damage("a packet of no interface") }
            // Without a time of its own.
            let wireLength = Int(u32(start + SimplePacketField.wireLength))
            let bound = first.snapLength == 0 ? wireLength : Int(first.snapLength)
            return try packet(
                0, at: start + SimplePacketField.bytes,
                count: min(wireLength, bound, body.count - SimplePacketField.bytes),
                wireLength: wireLength)
        default: return nil
        }
    }

    private func packet(
        _ interface: Int, at start: Int, count: Int, wireLength: Int
    ) throws(CaptureError) -> Packet {
        guard count <= body.upperBound - start, count <= Self.packetBytesMax else {
            throw Self.damage("a packet of \(count) bytes")
        }
        return Packet(
            nanoseconds: lastNanoseconds, interface: interface, bytes: start..<start + count,
            wireLength: wireLength)
    }

    /// An interface description block, §4.2.
    private func describe() throws(CaptureError) {
        guard body.count >= InterfaceField.options else { throw Self.damage("a short interface block") }
        let number = u16(body.lowerBound + InterfaceField.linkType)
        guard let link = LinkType(number: UInt32(number)) else {
            throw .unsupported(linkType: "\(number)")
        }
        var interface = CaptureInterface(
            link: link, snapLength: u32(body.lowerBound + InterfaceField.snapLength))
        var offset = body.lowerBound + InterfaceField.options
        while offset + InterfaceOption.value <= body.upperBound {
            let (code, size) = (u16(offset), Int(u16(offset + InterfaceOption.length)))
            let value = offset + InterfaceOption.value
            guard code != InterfaceOption.end, size <= body.upperBound - value else { break }
            switch code {
            case InterfaceOption.name:
                let text = block[value..<value + size].prefix { $0 != 0 }
                if !text.isEmpty { interface.name = String(decoding: text, as: UTF8.self) }
            case InterfaceOption.resolution where size == 1:
                interface.unitsPerSecond = try Self.units(block[value])
            case InterfaceOption.timeOffset where size == 8:
                // A number as the section writes it: of 32-bit halves the order turns too.
                let (first, second) = (UInt64(u32(value)), UInt64(u32(value + 4)))
                interface.offset = Int64(
                    bitPattern: isLittleEndian ? second << 32 | first : first << 32 | second)
            default: break
            }
            offset = value + (size + 3) & ~3
        }
        if interface.unitsPerSecond > 1_000_000 { isNanosecond = true }
        interfaces.append(interface)
    }

    /// `if_tsresol`: a power of ten or, with the top bit, of two.
    private static func units(_ value: UInt8) throws(CaptureError) -> UInt64 {
        let exponent = Int(value & 0x7f)
        guard exponent <= (value & 0x80 == 0 ? 19 : 63) else {
            throw damage("a resolution of \(value)")
        }
        if value & 0x80 != 0 { return 1 << UInt64(exponent) }
        return (0..<exponent).reduce(1) { units, _ in units * 10 }
    }
}
