// Classic BPF on the packet sockets: only what may be a tunnel's frame is copied into a ring.

import CLinux
import Glibc

enum SocketFilter {
    /// Accepts no frame: for the time between bind and the joining of a fanout group.
    static let nothing: [sock_filter] = [statement(BPF_RET | BPF_K, 0)]

    /// Accepts untagged frames for this host that are IPv4 with protocol 4 or 41, or IPv6 whose
    /// next header is one of them or an extension header that may lead to one.
    static let tunnelFrames: [sock_filter] = {
        let reject = 17
        let accept = 18
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
        jump(60, accept, otherwise: reject)
        assert(program.count == reject)
        program.append(statement(BPF_RET | BPF_K, 0))
        program.append(statement(BPF_RET | BPF_K, 0x40000))
        return program
    }()

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
