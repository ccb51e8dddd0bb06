// Classic BPF on the packet sockets: only what may be a tunnel's frame is copied into a ring.

import IP

public enum TapFilter {
    /// Sources of native frames that are told apart. The kernel takes 4,096 instructions, and
    /// each source costs every native IPv6 frame some. Where there are more, they are let in by
    /// prefixes that hold them, and the judge passes what else these hold.
    static let nativesMax = 256

    /// Accepts frames for this host, untagged or of VLAN 0, that are IPv4 with protocol 4 or 41,
    /// or IPv6 whose next header is one of them or an extension header that may lead to one; also
    /// those with a tag of VLAN 0 in the frame, for the judge looks behind it.
    /// - Parameter natives: IPv6 addresses. From these also IPv6 whose next header is TCP, UDP or
    ///   ICMPv6.
    /// - Returns: instructions (linux/filter.h `struct sock_filter`), 8 bytes each as they lie in
    ///   memory.
    public static func frames(natives: some Collection<Address>) -> [UInt64] {
        var program = ClassicProgram()
        program.load(.word, SocketBuffer.packetType)
        program.jumpIfEqual(0, "tag", otherwise: "reject")  // PACKET_HOST
        program.label("tag")
        program.load(.word, SocketBuffer.hasTag)
        program.jumpIfEqual(0, "protocol", otherwise: "priority")
        program.label("priority")
        program.load(.word, SocketBuffer.tag)
        program.jumpIfAny(UInt32(VLANTag.identifierMask), "reject", otherwise: "protocol")
        program.label("protocol")
        program.load(.word, SocketBuffer.protocolNumber)
        program.jumpIfEqual(UInt32(EtherType.ipv4), "ipv4")
        program.jumpIfEqual(UInt32(EtherType.ipv6), "ipv6")
        program.jumpIfEqual(UInt32(EtherType.customerTag), "inner tag")
        program.jumpIfEqual(UInt32(EtherType.serviceTag), "inner tag", otherwise: "reject")
        program.label("inner tag")
        program.load(.half, SocketBuffer.network)
        program.jumpIfAny(UInt32(VLANTag.identifierMask), "reject", otherwise: "accept")
        program.label("ipv4")
        program.load(.byte, SocketBuffer.network + IPv4Header.Offset.protocolNumber)
        for number in ProtocolNumber.tunnels { program.jumpIfEqual(UInt32(number), "accept") }
        program.answer(0)
        program.label("ipv6")
        program.load(.byte, SocketBuffer.network + IPv6Header.Offset.nextHeader)
        for number in ProtocolNumber.tunnels + ExtensionHeader.walked {
            program.jumpIfEqual(UInt32(number), "accept")
        }
        if !natives.isEmpty {
            for number in NativeProbe.protocols { program.jumpIfEqual(UInt32(number), "native") }
        }
        program.label("reject")
        program.answer(0)
        program.label("accept")
        program.answer(ClassicProgram.wholeFrame)
        program.label("native")
        for prefix in prefixes(of: natives) { program.native(prefix) }
        if !natives.isEmpty { program.answer(0) }
        return program.resolved()
    }

    /// At most `nativesMax` prefixes that hold all the addresses.
    static func prefixes(of addresses: some Collection<Address>) -> [Prefix] {
        var prefixes = Set(addresses.map { Prefix(ipv6: $0, length: 128) })
        var length = 128
        while prefixes.count > nativesMax {
            length -= 1
            prefixes = Set(prefixes.map { Prefix(ipv6: $0.address, length: length) })
        }
        return prefixes.sorted()
    }
}

/// Where classic BPF finds what is not in the frame (linux/filter.h `SKF_AD_OFF`), and the network
/// header (`SKF_NET_OFF`).
private enum SocketBuffer {
    static let protocolNumber = -0x1000
    static let packetType = -0x1000 + 4
    static let tag = -0x1000 + 44
    static let hasTag = -0x1000 + 48
    static let network = -0x10_0000
}

/// Classic BPF with symbolic jump targets. A jump reaches 255 instructions: verdicts stand near.
private struct ClassicProgram {
    /// An answer: as many bytes as there are.
    static let wholeFrame: UInt32 = 0x40000

    /// Codes of linux/bpf_common.h, combined.
    enum Load: UInt64 {
        case word = 0x20  // LD | W | ABS
        case half = 0x28  // LD | H | ABS
        case byte = 0x30  // LD | B | ABS
    }

    private var instructions: [UInt64] = []
    private var labels: [String: Int] = [:]
    private var jumps: [(at: Int, ifTrue: String?, ifFalse: String?)] = []

    private mutating func emit(_ code: UInt64, _ value: UInt32) {
        instructions.append(code | UInt64(value) << 32)
    }

    mutating func load(_ size: Load, _ offset: Int) {
        emit(size.rawValue, UInt32(truncatingIfNeeded: offset))
    }

    mutating func answer(_ bytes: UInt32) { emit(0x06, bytes) }  // RET | K

    /// Without a target it goes on at the next instruction.
    mutating func jumpIfEqual(_ value: UInt32, _ target: String?, otherwise: String? = nil) {
        jumps.append((instructions.count, target, otherwise))
        emit(0x15, value)  // JMP | JEQ | K
    }

    /// Where one of the bits is set.
    mutating func jumpIfAny(_ bits: UInt32, _ target: String, otherwise: String) {
        jumps.append((instructions.count, target, otherwise))
        emit(0x45, bits)  // JMP | JSET | K
    }

    mutating func label(_ name: String) { labels[name] = instructions.count }

    /// Accepts IPv6 whose source lies in the prefix, else goes on behind.
    mutating func native(_ prefix: Prefix) {
        let miss = "miss \(instructions.count)"
        let mask = Prefix.mask(bits: prefix.length)
        for (index, mask) in Self.words(mask).enumerated() where mask != 0 {
            load(.word, SocketBuffer.network + IPv6Header.Offset.source + index * 4)
            if mask != .max { emit(0x54, mask) }  // ALU | AND | K
            jumpIfEqual(Self.words(prefix.address)[index], nil, otherwise: miss)
        }
        answer(Self.wholeFrame)
        label(miss)
    }

    private static func words(_ address: Address) -> [UInt32] {
        [address.high >> 32, address.high, address.low >> 32, address.low].map {
            UInt32(truncatingIfNeeded: $0)
        }
    }

    func resolved() -> [UInt64] {
        var result = instructions
        for jump in jumps {
            func distance(_ name: String?) -> UInt64 {
                guard let name, let target = labels[name] else { return 0 }
                return UInt64(UInt8(truncatingIfNeeded: target - jump.at - 1))
            }
            result[jump.at] |= distance(jump.ifTrue) << 16 | distance(jump.ifFalse) << 24
        }
        return result
    }
}
