// pcapng (draft-ietf-opsawg-pcapng), block by block: each packet with its own interface, whose name, link
// type and resolution the file tells. libpcap tells nothing of interfaces and refuses files of two kinds.

import Forwarding
import Foundation

/// An interface that packets of a capture came in by.
public struct CaptureInterface: Sendable, Equatable {
    /// nil: the capture does not tell.
    public var name: String?
    public var link: LinkType
    var snapLength: UInt32
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

    /// Goes on until interfaces are known, or the file has ended.
    func readInterfaces() throws(CaptureError) {
        while interfaces.isEmpty, let kind = try readBlock() {
            if try packet(kind) != nil { throw Self.damage("a packet before its interface") }
        }
        if isFirst { throw Self.damage("the file is empty") }
    }

    /// The next packet, whose bytes are those of `withBytes`; nil at the end of the file.
    func next() throws(CaptureError) -> Packet? {
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
        guard try read(12) else { return nil }
        let kind = u32(0)
        let isSection = block[..<4].elementsEqual([0x0a, 0x0d, 0x0d, 0x0a])
        if isSection {
            // The byte-order magic stands behind the first length.
            switch Array(block[8..<12]) {
            case [0x4d, 0x3c, 0x2b, 0x1a]: isLittleEndian = true
            case [0x1a, 0x2b, 0x3c, 0x4d]: isLittleEndian = false
            default: throw Self.damage("a section without a byte order")
            }
            interfaces = []
        } else if isFirst {
            throw Self.damage("it does not begin with a section")
        }
        isFirst = false
        let length = Int(u32(4))
        guard length >= 12, length % 4 == 0, length <= Self.blockBytesMax else {
            throw Self.damage("a block of \(length) bytes")
        }
        // A block without a body has its second length in the first twelve bytes.
        if length > 12 { _ = try read(length - 12) }
        guard u32(length - 4) == UInt32(length) else {
            throw Self.damage("a block with two lengths")
        }
        body = 8..<length - 4
        if isSection {
            guard body.count >= 16, u16(12) == 1 else { throw Self.damage("an unknown version") }
        }
        return isSection ? 0x0a0d_0d0a : kind
    }

    /// A packet, where the block is one; notes an interface, where it is one.
    private func packet(_ kind: UInt32) throws(CaptureError) -> Packet? {
        let start = body.lowerBound
        switch kind {
        case 1:
            try describe()
            return nil
        case 2:
            guard body.count >= 20 else { throw Self.damage("a short packet block") }
            return try packet(Int(u16(start)), time: start + 4)
        case 3:
            guard body.count >= 4 else { throw Self.damage("a short packet block") }
            guard let first = interfaces.first else { throw Self.damage("a packet of no interface") }
            // Without a time of its own.
            let wire = Int(u32(start))
            let bound = first.snapLength == 0 ? wire : Int(first.snapLength)
            let count = min(wire, bound, body.count - 4)
            return try packet(lastNanoseconds, 0, start + 4, count, wire: wire)
        case 6:
            guard body.count >= 20 else { throw Self.damage("a short packet block") }
            return try packet(Int(u32(start)), time: start + 4)
        default: return nil
        }
    }

    private func packet(_ interface: Int, time: Int) throws(CaptureError) -> Packet {
        guard interface < interfaces.count else {
            throw Self.damage("a packet of interface \(interface), which is not described")
        }
        let now = interfaces[interface].nanoseconds(u64(time))
        return try packet(
            now, interface, time + 16, Int(u32(time + 8)), wire: Int(u32(time + 12)))
    }

    private func packet(
        _ now: UInt64, _ interface: Int, _ start: Int, _ count: Int, wire: Int
    ) throws(CaptureError) -> Packet {
        guard count <= body.upperBound - start, count <= Self.packetBytesMax else {
            throw Self.damage("a packet of \(count) bytes")
        }
        lastNanoseconds = now
        return Packet(
            nanoseconds: now, interface: interface, bytes: start..<start + count, wireLength: wire)
    }

    /// An interface description block, §4.2.
    private func describe() throws(CaptureError) {
        guard body.count >= 8 else { throw Self.damage("a short interface block") }
        let number = u16(body.lowerBound)
        guard let link = Self.link(number) else {
            throw CaptureError(message: LinkType.unsupported("\(number)"))
        }
        var interface = CaptureInterface(
            name: nil, link: link, snapLength: u32(body.lowerBound + 4))
        var offset = body.lowerBound + 8
        while offset + 4 <= body.upperBound {
            let (code, size) = (u16(offset), Int(u16(offset + 2)))
            let value = offset + 4
            guard code != 0, size <= body.upperBound - value else { break }
            switch code {
            case 2:
                let text = block[value..<value + size].prefix { $0 != 0 }
                if !text.isEmpty { interface.name = String(decoding: text, as: UTF8.self) }
            case 9 where size == 1: interface.unitsPerSecond = try Self.units(block[value])
            case 14 where size == 8:
                // A number as the section writes it: of 32-bit halves the order turns too.
                let (first, second) = (UInt64(u32(value)), UInt64(u32(value + 4)))
                interface.offset = Int64(
                    bitPattern: isLittleEndian ? second << 32 | first : first << 32 | second)
            default: break
            }
            offset = value + (size + 3) & ~3
        }
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

    /// From LINKTYPE_ values, which for RAW are not libpcap's own.
    private static func link(_ number: UInt16) -> LinkType? {
        switch number {
        case 1: .ethernet
        case 101, 228, 229: .raw
        case 113: .linuxCooked
        case 276: .linuxCooked2
        default: nil
        }
    }
}
