// Blocks of pcapng (draft-ietf-opsawg-pcapng), as bytes of a little-endian section.

/// Builds blocks. Times are nanoseconds since 1970.
public enum CaptureBlock {
    public static let sectionHeader: UInt32 = 0x0a0d_0d0a
    public static let interface: UInt32 = 1
    public static let statistics: UInt32 = 5
    public static let enhancedPacket: UInt32 = 6
    /// Bytes of an enhanced packet block before the packet's.
    public static let packetHeaderBytes = 28

    private static func u16(_ value: Int) -> [UInt8] { [UInt8(value & 255), UInt8(value >> 8 & 255)] }
    private static func u32(_ value: UInt32) -> [UInt8] { u16(Int(value & 0xffff)) + u16(Int(value >> 16)) }

    private static func padded(_ bytes: some Collection<UInt8>) -> [UInt8] {
        Array(bytes) + [UInt8](repeating: 0, count: (4 - bytes.count % 4) % 4)
    }

    private static func option(_ code: Int, _ value: some Collection<UInt8>) -> [UInt8] {
        u16(code) + u16(value.count) + padded(value)
    }

    private static func block(_ kind: UInt32, _ body: [UInt8]) -> [UInt8] {
        let length = u32(UInt32(body.count + 12))
        return u32(kind) + length + body + length
    }

    private static func time(_ nanoseconds: UInt64) -> [UInt8] {
        u32(UInt32(nanoseconds >> 32)) + u32(UInt32(truncatingIfNeeded: nanoseconds))
    }

    /// - Parameter application: what writes the file.
    public static func section(_ application: String) -> [UInt8] {
        // Version 1.0, of unknown length.
        let body = u32(0x1a2b_3c4d) + u16(1) + u16(0) + [UInt8](repeating: 0xff, count: 8)
        return block(sectionHeader, body + option(4, application.utf8) + option(0, []))
    }

    /// - Parameter link: LINKTYPE_ETHERNET or LINKTYPE_RAW.
    public static func interface(_ name: String, link: UInt32) -> [UInt8] {
        let resolution = option(9, [9])
        return block(
            interface, u16(Int(link)) + u16(0) + u32(0) + option(2, name.utf8) + resolution + option(0, []))
    }

    /// - Parameter interface: number of its block in the section.
    public static func packet(
        _ bytes: UnsafeRawBufferPointer, wireLength: Int, interface: Int, nanoseconds: UInt64, comment: String
    ) -> [UInt8] {
        var body = u32(UInt32(interface)) + time(nanoseconds)
        body += u32(UInt32(bytes.count)) + u32(UInt32(wireLength))
        body += padded(bytes)
        return block(enhancedPacket, body + option(1, comment.utf8) + option(0, []))
    }

    /// - Parameter dropped: packets that were to be captured and found no room.
    public static func statistics(dropped: UInt64, interface: Int, nanoseconds: UInt64) -> [UInt8] {
        let count = (0..<8).map { UInt8(truncatingIfNeeded: dropped >> UInt64(8 * $0)) }
        return block(
            statistics, u32(UInt32(interface)) + time(nanoseconds) + option(5, count) + option(0, []))
    }
}
