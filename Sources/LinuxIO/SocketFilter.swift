// Classic BPF on the packet sockets: only what may be a tunnel's frame is copied into a ring.

import CLinux
import Glibc

enum SocketFilter {
    /// Accepts no frame: for the time between bind and the joining of a fanout group.
    static let nothing: [sock_filter] = [statement(BPF_RET | BPF_K, 0)]

    /// Sources of native frames that are told apart. The kernel takes 4,096 instructions, and
    /// each source costs every native IPv6 frame some. Where there are more, they are let in by
    /// prefixes that hold them, and the judge passes what else these hold.
    static let nativesMax = 256

    /// Accepts frames for this host, untagged or of VLAN 0, that are IPv4 with protocol 4 or 41,
    /// or IPv6 whose next header is one of them or an extension header that may lead to one; also
    /// those with a tag of VLAN 0 in the frame, for the judge looks behind it.
    /// - Parameter natives: IPv6 addresses of 16 bytes. From these also IPv6 whose next header
    ///   is TCP, UDP or ICMPv6.
    static func frames(natives: [[UInt8]]) -> [sock_filter] {
        var program = ClassicProgram()
        program.load(BPF_W, SKF_AD_OFF + SKF_AD_PKTTYPE)
        program.jump(BPF_JEQ, UInt32(PACKET_HOST), "tag", otherwise: "reject")
        program.label("tag")
        program.load(BPF_W, SKF_AD_OFF + SKF_AD_VLAN_TAG_PRESENT)
        program.jump(BPF_JEQ, 0, "protocol", otherwise: "priority")
        program.label("priority")
        program.load(BPF_W, SKF_AD_OFF + SKF_AD_VLAN_TAG)
        program.jump(BPF_JSET, 0xfff, "reject", otherwise: "protocol")
        program.label("protocol")
        program.load(BPF_W, SKF_AD_OFF + SKF_AD_PROTOCOL)
        program.jump(BPF_JEQ, 0x0800, "ipv4")
        program.jump(BPF_JEQ, 0x86dd, "ipv6")
        program.jump(BPF_JEQ, 0x8100, "inner tag")
        program.jump(BPF_JEQ, 0x88a8, "inner tag", otherwise: "reject")
        program.label("inner tag")
        program.load(BPF_H, SKF_NET_OFF)
        program.jump(BPF_JSET, 0xfff, "reject", otherwise: "accept")
        program.label("ipv4")
        program.load(BPF_B, SKF_NET_OFF + 9)
        program.jump(BPF_JEQ, 4, "accept")
        program.jump(BPF_JEQ, 41, "accept", otherwise: "reject")
        program.label("ipv6")
        program.load(BPF_B, SKF_NET_OFF + 6)
        for number: UInt32 in [4, 41, 0, 43, 44, 60] { program.jump(BPF_JEQ, number, "accept") }
        if !natives.isEmpty {
            for number: UInt32 in [6, 17, 58] { program.jump(BPF_JEQ, number, "native") }
        }
        program.label("reject")
        program.answer(0)
        program.label("accept")
        program.answer(0x40000)
        program.label("native")
        for prefix in prefixes(of: natives) { program.native(prefix) }
        if !natives.isEmpty { program.answer(0) }
        return program.resolved()
    }

    struct Prefix: Hashable {
        var words: [UInt32]
        var length: Int

        func cut(to length: Int) -> Prefix {
            var cut = Prefix(words: words, length: length)
            for index in words.indices { cut.words[index] &= mask(index, length) }
            return cut
        }

        func mask(_ word: Int, _ length: Int) -> UInt32 {
            // Swift's shift by 32 or more leaves nothing.
            ~(UInt32.max >> UInt32(max(length - word * 32, 0)))
        }
    }

    /// At most `nativesMax` prefixes that hold all the addresses.
    static func prefixes(of addresses: [[UInt8]]) -> [Prefix] {
        var prefixes = Set(
            addresses.map { address in
                Prefix(
                    words: (0..<4).map { word in
                        address[(word * 4)..<(word * 4 + 4)].reduce(0) { $0 << 8 | UInt32($1) }
                    }, length: 128)
            })
        var length = 128
        while prefixes.count > nativesMax {
            length -= 1
            prefixes = Set(prefixes.map { $0.cut(to: length) })
        }
        return prefixes.sorted { $0.words.lexicographicallyPrecedes($1.words) }
    }

    fileprivate static func statement(_ code: Int32, _ value: UInt32) -> sock_filter {
        sock_filter(code: UInt16(code), jt: 0, jf: 0, k: value)
    }

    static func attach(
        _ program: [sock_filter], to descriptor: Descriptor, _ object: String
    ) throws(SystemError) {
        // The kernel copies the program: the pointer need only outlive the call.
        let memory = UnsafeMutablePointer<sock_filter>.allocate(capacity: program.count)
        defer { memory.deallocate() }
        memory.initialize(from: program, count: program.count)
        let filter = sock_fprog(len: UInt16(clamping: program.count), filter: memory)
        try descriptor.setOption(
            SOL_SOCKET, SO_ATTACH_FILTER, filter, "setsockopt(SO_ATTACH_FILTER)", object)
    }
}

/// Classic BPF with symbolic jump targets. A jump reaches 255 instructions: verdicts stand near.
private struct ClassicProgram {
    private var instructions: [sock_filter] = []
    private var labels: [String: Int] = [:]
    private var jumps: [(at: Int, ifTrue: String?, ifFalse: String?)] = []

    mutating func load(_ size: Int32, _ offset: Int32) {
        instructions.append(
            SocketFilter.statement(BPF_LD | size | BPF_ABS, UInt32(bitPattern: offset)))
    }

    mutating func answer(_ bytes: UInt32) {
        instructions.append(SocketFilter.statement(BPF_RET | BPF_K, bytes))
    }

    /// Without a target it goes on at the next instruction.
    mutating func jump(
        _ condition: Int32, _ value: UInt32, _ target: String?, otherwise: String? = nil
    ) {
        jumps.append((instructions.count, target, otherwise))
        instructions.append(SocketFilter.statement(BPF_JMP | condition | BPF_K, value))
    }

    mutating func label(_ name: String) { labels[name] = instructions.count }

    /// Accepts IPv6 whose source lies in the prefix, else goes on behind.
    mutating func native(_ prefix: SocketFilter.Prefix) {
        let miss = "miss \(instructions.count)"
        for word in 0..<4 {
            let mask = prefix.mask(word, prefix.length)
            if mask == 0 { break }
            load(BPF_W, SKF_NET_OFF + 8 + Int32(word * 4))
            if mask != .max {
                instructions.append(SocketFilter.statement(BPF_ALU | BPF_AND | BPF_K, mask))
            }
            jump(BPF_JEQ, prefix.words[word], nil, otherwise: miss)
        }
        answer(0x40000)
        label(miss)
    }

    func resolved() -> [sock_filter] {
        var result = instructions
        for jump in jumps {
            func distance(_ name: String?) -> UInt8 {
                guard let name, let target = labels[name] else { return 0 }
                return UInt8(truncatingIfNeeded: target - jump.at - 1)
            }
            result[jump.at].jt = distance(jump.ifTrue)
            result[jump.at].jf = distance(jump.ifFalse)
        }
        return result
    }
}
