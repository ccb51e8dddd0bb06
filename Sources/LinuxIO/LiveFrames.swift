// Frames that come in by an interface of this host as if its wire had brought them.

import CLinux
import Glibc

/// Runs an XDP program that passes a frame on, as a test with live frames (Linux 5.18, `BPF_PROG_TEST_RUN`
/// with `BPF_F_TEST_XDP_LIVE_FRAMES`). The kernel then treats the frame as received by the interface: taps,
/// programs at ingress and all that follows. Nothing is attached. Needs CAP_NET_ADMIN and CAP_BPF.
public final class LiveFrames {
    /// Bytes of the largest IP packet: a page holds the frame, and what the kernel puts around it.
    public static let packetBytesMax = 3400

    private let interface: String
    private let index: Int32
    private let program: Descriptor
    /// Destination and source of Ethernet.
    private let addresses: [UInt8]

    public init(interface: String, index: Int32) throws(SystemError) {
        self.interface = interface
        self.index = index
        // r0 = XDP_PASS; exit
        let words: [UInt64] = [2 << 32 | 0xb7, 0x95]
        do throws(SystemError) {
            program = try BPF.load(words, type: BPF_PROG_TYPE_XDP, object: interface, name: "shuck_probe")
        } catch {
            throw SystemError("bpf(BPF_PROG_LOAD)", interface, errno: error.errno, hint: Self.grant)
        }
        // From a locally administered address that is nobody's.
        addresses = try Self.address(of: interface, index) + [2, 0, 0, 0, 0, 1]
    }

    private static let grant =
        "run as root, or grant CAP_NET_RAW, CAP_NET_ADMIN and CAP_BPF, and let the seccomp profile allow bpf"

    private static func address(of interface: String, _ index: Int32) throws(SystemError) -> [UInt8] {
        let socket = Descriptor(
            try check("socket(AF_PACKET)", interface, grant: grant) { Sockets.open(AF_PACKET, .datagram) })
        var address = sockaddr_ll()
        address.sll_family = sa_family_t(AF_PACKET)
        address.sll_ifindex = index
        try check("bind", interface) { Sockets.withAddress(address) { bind(socket.number, $0, $1) } }
        var length = socklen_t(MemoryLayout<sockaddr_ll>.size)
        try check("getsockname", interface) {
            withUnsafeMutablePointer(to: &address) {
                $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                    getsockname(socket.number, $0, &length)
                }
            }
        }
        return withUnsafeBytes(of: address.sll_addr) { Array($0.prefix(6)) }
    }

    /// Lets a packet come in, in a frame for this host.
    /// - Returns: 0, or an errno.
    func receive(_ packet: [UInt8], isIPv4: Bool) -> Int32 {
        let frame = addresses + (isIPv4 ? [0x08, 0x00] : [0x86, 0xdd]) + packet
        var context = xdp_md()
        context.data_end = UInt32(frame.count)
        context.ingress_ifindex = UInt32(index)
        var attributes = bpf_attr()
        let result = withUnsafePointer(to: &context) { context in
            frame.withUnsafeBufferPointer { bytes in
                attributes.test.prog_fd = UInt32(program.number)
                attributes.test.data_in = UInt64(UInt(bitPattern: bytes.baseAddress))
                attributes.test.data_size_in = UInt32(bytes.count)
                attributes.test.ctx_in = UInt64(UInt(bitPattern: context))
                attributes.test.ctx_size_in = UInt32(MemoryLayout<xdp_md>.size)
                attributes.test.repeat = 1
                attributes.test.batch_size = 1
                attributes.test.flags = UInt32(BPF_F_TEST_XDP_LIVE_FRAMES)
                return clinux_bpf(
                    Int32(BPF_PROG_TEST_RUN.rawValue), &attributes, UInt32(MemoryLayout<bpf_attr>.size))
            }
        }
        return result < 0 ? -result : 0
    }
}
