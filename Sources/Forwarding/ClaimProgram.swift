// The BPF program that drops at ingress what our tunnels claim, behind the tap and before the IP stack.
// Assembled at run time, so that it needs no compiler on the host; what it claims is in maps.

import IP

extension Claims {
    /// The program that drops what these claim.
    public var program: FilterProgram {
        let program = ClaimProgram(self)
        return FilterProgram(
            words: program.words, references: program.references, maps: program.maps.contents)
    }
}

/// Instructions with symbolic jump targets. Their number does not depend on the number of claims.
private struct ClaimProgram {
    private(set) var words: [UInt64] = []
    private var labels: [String: Int] = [:]
    private var jumps: [(at: Int, to: String)] = []
    private(set) var references: [FilterProgram.Reference] = []
    let maps: ClaimMaps

    // Codes of linux/bpf_common.h and linux/bpf.h, combined.
    private enum Code {
        static let loadMap: UInt8 = 0x18  // LD | IMM | DW
        static let loadByte: UInt8 = 0x71  // LDX | B | MEM
        static let loadHalf: UInt8 = 0x69  // LDX | H | MEM
        static let loadWord: UInt8 = 0x61  // LDX | W | MEM
        static let loadLong: UInt8 = 0x79  // LDX | DW | MEM
        static let storeWord: UInt8 = 0x63  // STX | W | MEM
        static let storeHalf: UInt8 = 0x6b  // STX | H | MEM
        static let storeLong: UInt8 = 0x7b  // STX | DW | MEM
        static let storeImmediate: UInt8 = 0x62  // ST | W | MEM
        static let move: UInt8 = 0xbf  // ALU64 | MOV | X
        static let moveImmediate: UInt8 = 0xb7  // ALU64 | MOV | K
        static let add: UInt8 = 0x0f  // ALU64 | ADD | X
        static let addImmediate: UInt8 = 0x07  // ALU64 | ADD | K
        static let subtract: UInt8 = 0x1f  // ALU64 | SUB | X
        static let shiftLeft: UInt8 = 0x67  // ALU64 | LSH | K
        static let and: UInt8 = 0x54  // ALU | AND | K
        static let toBigEndian: UInt8 = 0xdc  // ALU | END | TO_BE
        static let call: UInt8 = 0x85  // JMP | CALL
        static let jumpAlways: UInt8 = 0x05  // JMP | JA
        static let jumpIfNull: UInt8 = 0x15  // JMP | JEQ | K
        static let jumpUnlessNull: UInt8 = 0x55  // JMP | JNE | K
        static let jumpEqual: UInt8 = 0x16  // JMP32 | JEQ | K
        static let jumpNotEqual: UInt8 = 0x56  // JMP32 | JNE | K
        static let jumpLess: UInt8 = 0xa6  // JMP32 | JLT | K
        static let jumpGreaterEqual: UInt8 = 0x36  // JMP32 | JGE | K
        static let jumpGreater: UInt8 = 0x2e  // JMP32 | JGT | X
        static let exit: UInt8 = 0x95  // JMP | EXIT
    }

    /// Fields of linux/bpf.h `struct __sk_buff`.
    private enum Context {
        static let length: Int16 = 0
        static let packetType: Int16 = 4
        static let protocolNumber: Int16 = 16
        static let hasTag: Int16 = 20
        static let tag: Int16 = 24
    }

    // Places on the stack, from the frame pointer on.
    private static let header: Int16 = -40
    /// Eight bytes read behind the header.
    private static let scratch: Int16 = -48
    private static let linkLength: Int16 = -56
    /// Of longest-prefix maps: the bits that count, then at most 20 bytes.
    private static let key: Int16 = -80

    /// Registers: r6 the context, r7 the ethertype or next header, r8 the offset of the network
    /// header and then of the IPv6 header that comes next. r9 is the end of what IPv6 holds.
    init(_ claims: Claims) {
        maps = ClaimMaps(claims)
        emit(Code.move, to: 6, from: 1)
        emit(Code.loadWord, to: 0, from: 6, offset: Context.packetType)
        jump(Code.jumpNotEqual, 0, 0, "next")  // PACKET_HOST
        emit(Code.moveImmediate, to: 8, value: Int32(EthernetHeader.byteCount))
        link()
        label("next")
        answer(-1)  // TC_ACT_UNSPEC, TCX_NEXT: other programs have their turn
        label("claim")
        answer(2)  // TC_ACT_SHOT, TCX_DROP
        ipv4()
        ipv6(hasNative: claims.native != nil)
        if claims.native != nil { native() }
        resolve()
    }

    /// To "ipv4" or "ipv6", behind tags that only have a priority (IEEE 802.1Q §6.9: VLAN 0).
    /// The first stands beside the frame, further ones in it (net/core/dev.c
    /// `__netif_receive_skb_core`, at `check_vlan_id`).
    private mutating func link() {
        emit(Code.loadWord, to: 0, from: 6, offset: Context.hasTag)
        jump(Code.jumpEqual, 0, 0, "untagged")
        emit(Code.loadWord, to: 0, from: 6, offset: Context.tag)
        emit(Code.and, to: 0, value: Int32(VLANTag.identifierMask))
        jump(Code.jumpNotEqual, 0, 0, "next")
        label("untagged")
        emit(Code.loadWord, to: 7, from: 6, offset: Context.protocolNumber)
        for number in 0...Limits.priorityTags {
            jump(Code.jumpEqual, 7, Self.network(EtherType.ipv4), "ipv4")
            jump(Code.jumpEqual, 7, Self.network(EtherType.ipv6), "ipv6")
            if number == Limits.priorityTags { return }
            jump(Code.jumpEqual, 7, Self.network(EtherType.customerTag), "tag \(number)")
            jump(Code.jumpNotEqual, 7, Self.network(EtherType.serviceTag), "next")
            label("tag \(number)")
            load(VLANTag.byteCount, to: Self.scratch, orElse: "next")
            emit(Code.loadHalf, to: 0, from: 10, offset: Self.scratch)
            emit(Code.and, to: 0, value: Self.network(VLANTag.identifierMask))
            jump(Code.jumpNotEqual, 0, 0, "next")
            emit(Code.loadHalf, to: 7, from: 10, offset: Self.scratch + Int16(VLANTag.typeOffset))
            emit(Code.addImmediate, to: 8, value: Int32(VLANTag.byteCount))
        }
    }

    private mutating func ipv4() {
        label("ipv4")
        load(IPv4Header.byteCount, to: Self.header, orElse: "ipv4 short")
        emit(Code.loadByte, to: 0, from: 10, offset: Self.place(IPv4Header.Offset.protocolNumber))
        jump(0, isOneOf: ProtocolNumber.tunnels, "ipv4 tunnel")
        jump("next")
        label("ipv4 tunnel")
        match(
            addressBytes: 4, source: Self.place(IPv4Header.Offset.source),
            destination: Self.place(IPv4Header.Offset.destination), .locals4, .endpoints4, .remotes4)
        label("ipv4 short")
        short(protocolAt: IPv4Header.Offset.protocolNumber, ProtocolNumber.tunnels)
    }

    /// A frame that ends within its network header: ours where its protocol may be a tunnel's.
    private mutating func short(protocolAt offset: Int, _ numbers: [UInt8]) {
        emit(Code.addImmediate, to: 8, value: Int32(offset))
        load(1, to: Self.scratch, orElse: "next")
        emit(Code.loadByte, to: 0, from: 10, offset: Self.scratch)
        jump(0, isOneOf: numbers, "claim")
        jump("next")
    }

    private mutating func ipv6(hasNative: Bool) {
        label("ipv6")
        load(IPv6Header.byteCount, to: Self.header, orElse: "ipv6 short")
        emit(Code.loadByte, to: 7, from: 10, offset: Self.place(IPv6Header.Offset.nextHeader))
        if hasNative { jump(7, isOneOf: NativeProbe.protocols, "native") }
        emit(Code.storeLong, to: 10, from: 8, offset: Self.linkLength)
        payloadLength()
        emit(Code.addImmediate, to: 8, value: Int32(IPv6Header.byteCount))
        emit(Code.add, to: 9, from: 8)
        emit(Code.loadWord, to: 0, from: 6, offset: Context.length)
        jump(Code.jumpGreater, 0, from: 9, "extension 0")
        emit(Code.move, to: 9, from: 0)
        for step in 0..<Limits.extensionHeaders { extensionHeader(step) }
        label("extension \(Limits.extensionHeaders)")
        jump(7, isOneOf: ProtocolNumber.tunnels + ExtensionHeader.walked, "ipv6 tunnel")
        jump("next")
        label("ipv6 tunnel")
        match(
            addressBytes: 16, source: Self.place(IPv6Header.Offset.source),
            destination: Self.place(IPv6Header.Offset.destination), .locals6, .endpoints6, .remotes6)
        label("ipv6 short")
        short(
            protocolAt: IPv6Header.Offset.nextHeader,
            ProtocolNumber.tunnels + ExtensionHeader.walked)
    }

    /// Goes on as the judge does (`OuterHeader.walkExtensionHeaders`). A chain that is cut or too long
    /// may still lead to a tunnel: such a frame is ours to refuse.
    private mutating func extensionHeader(_ step: Int) {
        label("extension \(step)")
        jump(7, isOneOf: ProtocolNumber.tunnels, "ipv6 tunnel")
        jump(7, isOneOf: ExtensionHeader.walked, "header \(step)")
        jump("next")
        label("header \(step)")
        emit(Code.loadLong, to: 1, from: 10, offset: Self.linkLength)
        emit(Code.move, to: 0, from: 8)
        emit(Code.subtract, to: 0, from: 1)
        jump(
            Code.jumpGreaterEqual, 0, Int32(IPv6Header.byteCount + Limits.extensionBytes), "ipv6 tunnel")
        emit(Code.move, to: 0, from: 8)
        emit(Code.addImmediate, to: 0, value: Int32(ExtensionHeader.byteCount))
        jump(Code.jumpGreater, 0, from: 9, "ipv6 tunnel")
        load(ExtensionHeader.byteCount, to: Self.scratch, orElse: "ipv6 tunnel")
        jump(Code.jumpEqual, 7, Int32(ProtocolNumber.fragment), "fragment \(step)")
        emit(Code.loadByte, to: 7, from: 10, offset: Self.scratch)
        emit(
            Code.loadByte, to: 0, from: 10, offset: Self.scratch + Int16(ExtensionHeader.lengthOffset))
        emit(Code.addImmediate, to: 0, value: 1)
        emit(Code.shiftLeft, to: 0, value: 3)
        emit(Code.add, to: 8, from: 0)
        jump(Code.jumpGreater, 8, from: 9, "ipv6 tunnel")
        jump("extension \(step + 1)")
        label("fragment \(step)")
        emit(Code.loadByte, to: 7, from: 10, offset: Self.scratch)
        emit(Code.addImmediate, to: 8, value: Int32(FragmentHeader.byteCount))
        emit(
            Code.loadHalf, to: 0, from: 10, offset: Self.scratch + Int16(FragmentHeader.fragmentOffset))
        emit(Code.and, to: 0, value: Self.network(FragmentHeader.offsetMask))
        jump(Code.jumpEqual, 0, 0, "extension \(step + 1)")
        // Behind a later fragment's header lies no header that could be walked.
        jump(7, isOneOf: ProtocolNumber.tunnels, "ipv6 tunnel")
        jump("next")
    }

    /// Exactly what the judge injects of native frames. `r7` holds the next header.
    private mutating func native() {
        label("native")
        lookUp(.sources, at: Self.place(IPv6Header.Offset.source))
        jump(Code.jumpIfNull, 0, 0, "next")
        nativeHeader()
        emit(Code.storeImmediate, to: 10, offset: Self.key, value: 32 + 128)
        emit(Code.storeWord, to: 10, from: 7, offset: Self.key + 4)
        copyWords(4, from: Self.place(IPv6Header.Offset.destination), to: Self.key + 8)
        lookUp(.targets, at: Self.key)
        jump(Code.jumpIfNull, 0, 0, "next")
        emit(Code.loadWord, to: 9, from: 0)
        jump(Code.jumpEqual, 9, Int32(ClaimMaps.never), "next")
        jump(Code.jumpEqual, 9, Int32(ClaimMaps.anyPort), "claim")
        emit(
            Code.addImmediate, to: 8, value: Int32(IPv6Header.byteCount + Ports.destinationOffset))
        load(2, to: Self.scratch, orElse: "next")
        emit(Code.storeImmediate, to: 10, offset: Self.key, value: 32 + 16)
        emit(Code.storeWord, to: 10, from: 9, offset: Self.key + 4)
        emit(Code.loadHalf, to: 0, from: 10, offset: Self.scratch)
        emit(Code.storeHalf, to: 10, from: 0, offset: Self.key + 8)
        lookUp(.ports, at: Self.key)
        jump(Code.jumpUnlessNull, 0, 0, "claim")
        jump("next")
    }

    /// Goes on where a whole IPv6 header and an upper-layer one up to its checksum are there, and
    /// the packet is none of those that belong to one link.
    private mutating func nativeHeader() {
        emit(Code.loadByte, to: 0, from: 10, offset: Self.header)
        emit(Code.and, to: 0, value: 0xf0)
        jump(Code.jumpNotEqual, 0, 0x60, "next")
        emit(Code.loadByte, to: 0, from: 10, offset: Self.place(IPv6Header.Offset.hopLimit))
        jump(Code.jumpEqual, 0, 0, "next")
        payloadLength()
        emit(Code.loadWord, to: 0, from: 6, offset: Context.length)
        emit(Code.subtract, to: 0, from: 8)
        emit(Code.addImmediate, to: 0, value: -Int32(IPv6Header.byteCount))
        jump(Code.jumpGreater, 9, from: 0, "next")
        jump(7, isOneOf: [ProtocolNumber.tcp], "native TCP")
        jump(7, isOneOf: [ProtocolNumber.udp], "native UDP")
        jump(Code.jumpLess, 9, Int32(ICMPHeader.Offset.checksum + 2), "next")
        emit(Code.move, to: 9, from: 8)
        emit(Code.addImmediate, to: 8, value: Int32(IPv6Header.byteCount))
        load(1, to: Self.scratch, orElse: "next")
        emit(Code.move, to: 8, from: 9)
        emit(Code.loadByte, to: 0, from: 10, offset: Self.scratch)
        // Multicast listener and neighbour discovery.
        jump(0, isOneOf: (0...255).filter(SourceRewrite.isOfLink), "next")
        jump("native upper")
        label("native TCP")
        jump(Code.jumpLess, 9, Int32(TCPHeader.Offset.checksum + 2), "next")
        jump("native upper")
        label("native UDP")
        jump(Code.jumpLess, 9, Int32(UDPHeader.Offset.checksum + 2), "next")
        label("native upper")
    }

    /// The longest prefix that holds the destination decides, and where it has a set of remotes
    /// the source.
    private mutating func match(
        addressBytes: Int32, source: Int16, destination: Int16, _ locals: ClaimMaps.Name,
        _ endpoints: ClaimMaps.Name, _ remotes: ClaimMaps.Name
    ) {
        guard !maps[locals].isEmpty else { return jump("next") }
        let words = Int16(addressBytes / 4)
        emit(Code.storeImmediate, to: 10, offset: Self.key, value: addressBytes * 8)
        copyWords(words, from: destination, to: Self.key + 4)
        lookUp(locals, at: Self.key)
        jump(Code.jumpIfNull, 0, 0, "next")
        guard maps[locals].values.contains(where: { $0 != ClaimMaps.anyone }) else {
            return jump("claim")
        }
        emit(Code.loadWord, to: 7, from: 0)
        jump(Code.jumpEqual, 7, Int32(ClaimMaps.anyone), "claim")
        if !maps[endpoints].isEmpty {
            lookUp(endpoints, at: source)
            jump(Code.jumpUnlessNull, 0, 0, "next")
        }
        if !maps[remotes].isEmpty {
            emit(Code.storeImmediate, to: 10, offset: Self.key, value: 32 + addressBytes * 8)
            emit(Code.storeWord, to: 10, from: 7, offset: Self.key + 4)
            copyWords(words, from: source, to: Self.key + 8)
            lookUp(remotes, at: Self.key)
            jump(Code.jumpUnlessNull, 0, 0, "claim")
        }
        jump("next")
    }

    // MARK: assembling

    /// Where a field of the header that was read lies.
    private static func place(_ offset: Int) -> Int16 { header + Int16(offset) }

    /// A number as a load finds it in a packet.
    private static func network(_ number: UInt16) -> Int32 { Int32(number.bigEndian) }

    private mutating func answer(_ value: Int32) {
        emit(Code.moveImmediate, to: 0, value: value)
        emit(Code.exit)
    }

    /// Reads bytes of the frame at r8. A load that the frame's end is in the way of goes on at
    /// `otherwise`; LD_ABS would leave with 0, TC_ACT_OK, and no later program would be asked.
    private mutating func load(_ count: Int, to place: Int16, orElse otherwise: String) {
        emit(Code.move, to: 1, from: 6)
        emit(Code.move, to: 2, from: 8)
        emit(Code.move, to: 3, from: 10)
        emit(Code.addImmediate, to: 3, value: Int32(place))
        emit(Code.moveImmediate, to: 4, value: Int32(count))
        emit(Code.call, value: 26)  // bpf_skb_load_bytes
        jump(Code.jumpNotEqual, 0, 0, otherwise)
    }

    /// r9 becomes the payload length that the IPv6 header tells.
    private mutating func payloadLength() {
        emit(Code.loadHalf, to: 9, from: 10, offset: Self.place(IPv6Header.Offset.payloadLength))
        emit(Code.toBigEndian, to: 9, value: 16)
    }

    /// r0 becomes the address of the value, or null.
    private mutating func lookUp(_ map: ClaimMaps.Name, at place: Int16) {
        references.append(FilterProgram.Reference(at: words.count, map: map.rawValue))
        emit(Code.loadMap, to: 1, from: 1)  // BPF_PSEUDO_MAP_FD
        emit(0)
        emit(Code.move, to: 2, from: 10)
        emit(Code.addImmediate, to: 2, value: Int32(place))
        emit(Code.call, value: 1)  // bpf_map_lookup_elem
    }

    private mutating func copyWords(_ count: Int16, from: Int16, to: Int16) {
        for word in 0..<count {
            emit(Code.loadWord, to: 0, from: 10, offset: from + word * 4)
            emit(Code.storeWord, to: 10, from: 0, offset: to + word * 4)
        }
    }

    private mutating func emit(
        _ code: UInt8, to: UInt8 = 0, from: UInt8 = 0, offset: Int16 = 0, value: Int32 = 0
    ) {
        words.append(
            UInt64(code) | UInt64(to) << 8 | UInt64(from) << 12
                | UInt64(UInt16(bitPattern: offset)) << 16
                | UInt64(UInt32(bitPattern: value)) << 32)
    }

    private mutating func jump(_ code: UInt8, _ register: UInt8, _ value: Int32, _ target: String) {
        jumps.append((words.count, target))
        emit(code, to: register, value: value)
    }

    private mutating func jump(
        _ code: UInt8, _ register: UInt8, from other: UInt8, _ target: String
    ) {
        jumps.append((words.count, target))
        emit(code, to: register, from: other)
    }

    private mutating func jump(_ register: UInt8, isOneOf numbers: [UInt8], _ target: String) {
        for number in numbers { jump(Code.jumpEqual, register, Int32(number), target) }
    }

    private mutating func jump(_ target: String) {
        jumps.append((words.count, target))
        emit(Code.jumpAlways)
    }

    private mutating func label(_ name: String) { labels[name] = words.count }

    /// A jump reaches 32,767 instructions; there are fewer than 1,000, whatever is claimed.
    private mutating func resolve() {
        for jump in jumps {
            guard let target = labels[jump.to] else { continue }
            let distance = Int16(truncatingIfNeeded: target - jump.at - 1)
            words[jump.at] |= UInt64(UInt16(bitPattern: distance)) << 16
        }
    }
}
