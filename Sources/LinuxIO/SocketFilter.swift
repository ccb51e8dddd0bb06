// Classic BPF on the packet sockets: only what may be a tunnel's frame is copied into a ring.

import CLinux
import Glibc

enum SocketFilter {
    /// Accepts no frame: for the time between bind and the joining of a fanout group.
    static let nothing: [sock_filter] = [statement(BPF_RET | BPF_K, 0)]

    /// Accepts untagged frames for this host that are IPv4 with protocol 4 or 41, or IPv6 whose
    /// next header is one of them or an extension header that may lead to one.
    /// - Parameter natives: IPv6 addresses of 16 bytes. From these also IPv6 whose next header
    ///   is TCP, UDP or ICMPv6.
    static func frames(natives: [[UInt8]]) -> [sock_filter] {
        let reject = 17
        let accept = 18
        let native = natives.isEmpty ? reject : 19
        var program: [sock_filter] = []
        func load(_ size: Int32, _ offset: Int32) {
            program.append(statement(BPF_LD | size | BPF_ABS, UInt32(bitPattern: offset)))
        }
        func jump(_ value: UInt32, _ ifEqual: Int, otherwise: Int) {
            let next = program.count + 1
            program.append(
                sock_filter(
                    code: UInt16(BPF_JMP | BPF_JEQ | BPF_K), jt: UInt8(ifEqual - next),
                    jf: UInt8(otherwise - next), k: value))
        }
        load(BPF_W, SKF_AD_OFF + SKF_AD_PKTTYPE)
        jump(UInt32(PACKET_HOST), 2, otherwise: reject)
        load(BPF_W, SKF_AD_OFF + SKF_AD_VLAN_TAG_PRESENT)
        jump(0, 4, otherwise: reject)
        load(BPF_W, SKF_AD_OFF + SKF_AD_PROTOCOL)
        jump(0x0800, 6, otherwise: 9)
        load(BPF_B, SKF_NET_OFF + 9)
        jump(4, accept, otherwise: 8)
        jump(41, accept, otherwise: reject)
        jump(0x86dd, 10, otherwise: reject)
        load(BPF_B, SKF_NET_OFF + 6)
        for number: UInt32 in [4, 41, 0, 43, 44] { jump(number, accept, otherwise: program.count + 1) }
        jump(60, accept, otherwise: native)
        assert(program.count == reject)
        program.append(statement(BPF_RET | BPF_K, 0))
        program.append(statement(BPF_RET | BPF_K, 0x40000))
        if natives.isEmpty { return program }
        // The accumulator still holds the next header. Verdicts stand near: a jump reaches 255.
        jump(6, native + 4, otherwise: native + 1)
        jump(17, native + 4, otherwise: native + 2)
        jump(58, native + 4, otherwise: native + 3)
        program.append(statement(BPF_RET | BPF_K, 0))
        for address in natives {
            let next = program.count + 9
            for word in 0..<4 {
                let value = address[(word * 4)..<(word * 4 + 4)].reduce(UInt32(0)) {
                    $0 << 8 | UInt32($1)
                }
                load(BPF_W, SKF_NET_OFF + 8 + Int32(word * 4))
                jump(value, program.count + 1, otherwise: next)
            }
            program.append(statement(BPF_RET | BPF_K, 0x40000))
        }
        program.append(statement(BPF_RET | BPF_K, 0))
        return program
    }

    private static func statement(_ code: Int32, _ value: UInt32) -> sock_filter {
        sock_filter(code: UInt16(code), jt: 0, jf: 0, k: value)
    }

    static func attach(
        _ program: [sock_filter], to descriptor: Descriptor, _ object: String
    ) throws(SystemError) {
        // The kernel copies the program: the pointer need only outlive the call.
        let memory = UnsafeMutablePointer<sock_filter>.allocate(capacity: program.count)
        defer { memory.deallocate() }
        memory.initialize(from: program, count: program.count)
        let filter = sock_fprog(len: UInt16(program.count), filter: memory)
        try descriptor.setOption(
            SOL_SOCKET, SO_ATTACH_FILTER, filter, "setsockopt(SO_ATTACH_FILTER)", object)
    }
}
