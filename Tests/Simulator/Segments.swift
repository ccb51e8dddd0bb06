// Cuts a joined packet as the kernel does, into memory that stays: Segments.

import Forwarding

/// net/ipv4/tcp_offload.c `tcp_gso_segment`, net/ipv4/udp_offload.c `__udp_gso_segment`, net/ipv4/af_inet.c
/// `inet_gso_segment`. Tests compare it with segments that were never joined.
struct Segments {
    let packet: UnsafeRawPointer
    let length: Int
    let isIPv4: Bool
    let isTCP: Bool
    let transport: Int
    let headers: Int
    let size: Int
    let count: Int

    /// nil: the kernel would refuse the header, or not cut.
    init?(_ packet: UnsafeRawPointer, length: Int, _ vnet: VirtioHeader) {
        self.packet = packet
        self.length = length
        guard length > 28 else { return nil }
        isIPv4 = packet.load(as: UInt8.self) >> 4 == 4
        isTCP = vnet.gsoType != VirtioHeader.gsoUDP
        transport = Int(vnet.checksumStart)
        guard vnet.flags == VirtioHeader.needsChecksum, transport == (isIPv4 ? 20 : 40),
            vnet.checksumOffset == (isTCP ? 16 : 6),
            !isTCP || vnet.gsoType == (isIPv4 ? VirtioHeader.gsoTCPv4 : VirtioHeader.gsoTCPv6)
        else { return nil }
        headers =
            transport
            + (isTCP ? Int(packet.load(fromByteOffset: transport + 12, as: UInt8.self) >> 4) * 4 : 8)
        size = Int(vnet.gsoSize)
        let payload = length - headers
        guard Int(vnet.headerLength) == headers, size > 0, payload > size, length <= 65_535,
            isTCP || payload <= size * 64
        else { return nil }
        count = (payload + size - 1) / size
    }

    /// Writes one segment.
    /// - Returns: its length.
    func write(_ number: Int, to memory: UnsafeMutableRawPointer) -> Int {
        let start = headers &+ number &* size
        let bytes = min(size, length &- start)
        memory.copyMemory(from: packet, byteCount: headers)
        (memory + headers).copyMemory(from: packet + start, byteCount: bytes)
        let total = headers &+ bytes
        let field = transport &+ (isTCP ? 16 : 6)
        // The field holds the sum over addresses, protocol and the whole's length.
        let whole = UInt64(~UInt16(truncatingIfNeeded: length &- transport))
        let part = UInt64(total &- transport)
        store(folded(UInt64(bigEndian(packet, field)) &+ whole &+ part), memory, field)
        if isTCP {
            let sequence = UInt32(
                bigEndian: packet.loadUnaligned(fromByteOffset: transport &+ 4, as: UInt32.self))
            memory.storeBytes(
                of: (sequence &+ UInt32(truncatingIfNeeded: number &* size)).bigEndian,
                toByteOffset: transport &+ 4, as: UInt32.self)
            var flags = memory.load(fromByteOffset: transport &+ 13, as: UInt8.self)
            if number < count &- 1 { flags &= ~0x09 }
            if number > 0 { flags &= ~0x80 }
            memory.storeBytes(of: flags, toByteOffset: transport &+ 13, as: UInt8.self)
        } else {
            store(UInt16(truncatingIfNeeded: part), memory, transport &+ 4)
        }
        if isIPv4 {
            store(UInt16(truncatingIfNeeded: total), memory, 2)
            store(bigEndian(packet, 4) &+ UInt16(truncatingIfNeeded: number), memory, 4)
            store(0, memory, 10)
            store(~onesSum(memory, 20), memory, 10)
        } else {
            store(UInt16(truncatingIfNeeded: total &- 40), memory, 4)
        }
        Self.finish(memory, total, transport, field)
        return total
    }

    /// Finishes a checksum whose field is part of the sum (`skb_checksum_help`); UDP has none of 0.
    static func finish(_ packet: UnsafeMutableRawPointer, _ length: Int, _ start: Int, _ field: Int) {
        let value = ~onesSum(packet + start, length &- start)
        store(field &- start == 6 && value == 0 ? 0xffff : value, packet, field)
    }
}
