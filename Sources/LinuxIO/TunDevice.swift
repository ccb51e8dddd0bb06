// TUN devices: one queue a worker, opened with a virtio_net_hdr so that GSO frames go in whole.

import CLinux
import Glibc
import IP
import Routing
import Synchronization

public final class TunDevice: Sendable {
    public let name: String
    /// Its number in the namespace that it was made in; one that was moved may have another.
    public let index: Int32
    /// Where it was moved to; nil: it stands in this process's namespace.
    public let namespace: NamespaceIdentity?
    /// One a worker. Writes to them never block.
    public let queues: [Descriptor]
    /// What the kernel agreed to take segments of; the rest must come as single packets.
    public let offloads: Offloads
    /// What of it the kernel then refused.
    public let refusals = Refusals()

    /// What is left of what the kernel agreed to.
    public var usableOffloads: Offloads { offloads.subtracting(refusals.offloads) }

    /// Written by workers, read by anyone.
    public final class Refusals: Sendable {
        private let bits = Atomic<UInt32>(0)

        public init() {}

        public var offloads: Offloads { Offloads(rawValue: bits.load(ordering: .relaxed)) }

        public func note(_ offloads: Offloads) {
            bits.bitwiseOr(offloads.rawValue, ordering: .relaxed)
        }
    }

    public struct Offloads: OptionSet, Sendable, Codable {
        public let rawValue: UInt32
        public init(rawValue: UInt32) { self.rawValue = rawValue }
        public static let checksum = Offloads(rawValue: 1)
        public static let tcp = Offloads(rawValue: 2)
        /// UDP segmentation, Linux 6.2.
        public static let udp = Offloads(rawValue: 4)

        public var names: [String] {
            (contains(.checksum) ? ["checksum"] : []) + (contains(.tcp) ? ["tcp"] : [])
                + (contains(.udp) ? ["udp"] : [])
        }
    }

    /// Creates the device; it goes when its last queue is closed.
    /// - Parameter namespace: where it is moved to. Opened inside, a queue would keep the
    ///   namespace alive and writes into it would succeed for ever; one that was opened here
    ///   dies with the device, and the device with the namespace.
    public init(
        name: String, queues count: Int, namespace: NetworkNamespace? = nil
    ) throws(SystemError) {
        self.name = name
        self.namespace = namespace?.identity
        var queues: [Descriptor] = []
        for number in 0..<count {
            // Never somebody else's device: the first queue must make it.
            queues.append(try Self.open(name, isExclusive: number == 0))
        }
        self.queues = queues
        let offloads = Self.negotiate(queues[0])
        for queue in queues.dropFirst() { _ = Self.negotiate(queue) }
        self.offloads = offloads
        index = Int32(if_nametoindex(name))
        if count > 1 { Self.skipFlowTable(queues[0], name) }
        if let namespace { try move(to: namespace) }
    }

    /// A device that another process made and handed over.
    /// - Parameters:
    ///   - queues: one a worker.
    ///   - index, namespace, offloads: as that one had them.
    public init(
        adopting queues: [Descriptor], name: String, index: Int32, namespace: NamespaceIdentity?,
        offloads: Offloads, refused: Offloads
    ) {
        self.name = name
        self.index = index
        self.namespace = namespace
        self.queues = queues
        self.offloads = offloads
        refusals.note(refused)
    }

    private func move(to namespace: NetworkNamespace) throws(SystemError) {
        let netlink = try NetlinkSocket()
        do throws(SystemError) {
            try netlink.request(object: name) { message in
                message.begin(type: RTM_NEWLINK, flags: 0)
                message.linkHeader(index: self.index, up: false)
                message.attribute(IFLA_NET_NS_FD, UInt32(namespace.descriptor.number))
            }
        } catch {
            throw SystemError(
                "move to \(namespace.path)", name, errno: error.errno,
                hint: error.errno == EEXIST
                    ? "an interface \(name) is already in there: choose another name under devices"
                    : error.hint)
        }
    }

    /// False once the device is gone: deleted, or with the namespace that it stood in.
    public var isAlive: Bool {
        var polled = pollfd(fd: queues[0].number, events: 0, revents: 0)
        return poll(&polled, 1, 0) == 0
    }

    /// With several queues the kernel hashes each packet that we write, to learn which queue its
    /// answers should take (drivers/net/tun.c `tun_flow_update`). The answers to probes are all
    /// that comes this way, from the first queue: a steering program spares the hash. Without CAP_BPF the
    /// kernel goes on learning.
    private static func skipFlowTable(_ queue: Descriptor, _ name: String) {
        // r0 = 0; exit
        let program = try? BPF.load(
            [0xb7, 0x95], type: BPF_PROG_TYPE_SOCKET_FILTER, object: name)
        guard let program else { return }
        var number = program.number
        _ = ioctl(queue.number, UInt(CLINUX_TUNSETSTEERINGEBPF), &number)
    }

    private static func open(_ name: String, isExclusive: Bool) throws(SystemError) -> Descriptor {
        let path = "/dev/net/tun"
        let number = try check(
            "open", path,
            hint: """
                load the driver (modprobe tun), or in a container pass the device \
                (--device /dev/net/tun)
                """
        ) { Glibc.open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK) }
        let descriptor = Descriptor(number)
        var request = ifreq()
        withUnsafeMutableBytes(of: &request.ifr_ifrn) { bytes in
            for (index, byte) in name.utf8.prefix(Int(IFNAMSIZ) - 1).enumerated() {
                bytes[index] = byte
            }
        }
        request.ifr_ifru.ifru_flags = Int16(
            truncatingIfNeeded: IFF_TUN | IFF_NO_PI | IFF_VNET_HDR | IFF_MULTI_QUEUE
                | (isExclusive ? IFF_TUN_EXCL : 0))
        try check("ioctl(TUNSETIFF)", name, hint: tunHint(name)) {
            ioctl(number, UInt(CLINUX_TUNSETIFF), &request)
        }
        var headerBytes = Int32(PacketRing.virtioHeaderBytes)
        try check("ioctl(TUNSETVNETHDRSZ)", name) {
            ioctl(number, UInt(CLINUX_TUNSETVNETHDRSZ), &headerBytes)
        }
        return descriptor
    }

    private static func tunHint(_ name: String) -> String? {
        if if_nametoindex(name) != 0 {
            return """
                an interface \(name) is already there: stop its owner, remove it \
                (ip link del \(name)), or choose another name under devices
                """
        }
        return geteuid() == 0 ? nil : "grant CAP_NET_ADMIN"
    }

    /// Asks for everything, then for less: `TUNSETOFFLOAD` refuses a set with one unknown flag.
    private static func negotiate(_ queue: Descriptor) -> Offloads {
        for set: Offloads in [[.checksum, .tcp, .udp], [.checksum, .tcp]]
        where setOffloads(queue, set) {
            return set
        }
        return []
    }

    private static func setOffloads(_ queue: Descriptor, _ set: Offloads) -> Bool {
        let tcp = UInt32(TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN)
        let udp = UInt32(CLINUX_TUN_F_USO4 | CLINUX_TUN_F_USO6)
        let flags = (set.contains(.tcp) ? tcp : 0) | (set.contains(.udp) ? udp : 0)
        return ioctl(queue.number, UInt(CLINUX_TUNSETOFFLOAD), CInt(flags)) == 0
    }

    /// Whether packets that the kernel routes to the device are read. `TUNSETOFFLOAD` is about
    /// those alone (what is written may be segments of any kind, drivers/net/tun.c
    /// `tun_get_user`): a reader that takes nothing gets whole packets with finished checksums.
    public func setReading(_ isRead: Bool) {
        for queue in queues { _ = Self.setOffloads(queue, isRead ? [] : offloads) }
    }

    /// MTU, a loose reverse-path filter, an address of host scope and up, on this device only.
    /// A loose filter passes nothing on a device without an address, and the effective one is
    /// max(all, device), so 2 holds whatever `all` says. By netlink: /proc may be read-only.
    /// - Parameters:
    ///   - namespace: the one that it was moved to, if it was.
    ///   - forwards: IPv4 that it brings in is forwarded, as by devices that are made while
    ///     `ip_forward` is 1.
    public func configure(
        mtu: Int, address: Prefix, in namespace: NetworkNamespace? = nil,
        forwards: Bool = false
    ) throws(SystemError) {
        let name = name
        // A netlink socket speaks to the namespace that its thread stood in when it was made.
        try namespace.run { () throws(SystemError) in
            let (index, bytes) = (Int32(if_nametoindex(name)), address.address.bytes)
            let netlink = try NetlinkSocket()
            try netlink.request(object: name) { message in
                message.begin(type: RTM_NEWLINK, flags: 0)
                message.linkHeader(index: index, up: true)
                message.attribute(IFLA_MTU, UInt32(mtu))
                message.nest(IFLA_AF_SPEC) { message in
                    message.nest(UInt16(AF_INET)) { message in
                        message.nest(IFLA_INET_CONF) { message in
                            message.attribute(UInt16(CLINUX_IPV4_DEVCONF_RP_FILTER), UInt32(2))
                            if forwards {
                                message.attribute(UInt16(CLINUX_IPV4_DEVCONF_FORWARDING), UInt32(1))
                            }
                        }
                    }
                }
            }
            try netlink.request(object: name) { message in
                message.begin(type: RTM_NEWADDR, flags: UInt16(NLM_F_CREATE | NLM_F_REPLACE))
                message.addressHeader(index: index, bytes: bytes, prefixLength: address.length)
                message.attribute(IFA_LOCAL, bytes)
                message.attribute(IFA_ADDRESS, bytes)
            }
        }
    }

    /// Takes an address that `configure` gave it away; one that is gone already is no error.
    public func remove(
        address: Prefix, in namespace: NetworkNamespace? = nil
    ) throws(SystemError) {
        let name = name
        try namespace.run { () throws(SystemError) in
            let (index, bytes) = (Int32(if_nametoindex(name)), address.address.bytes)
            do throws(SystemError) {
                try NetlinkSocket().request(object: name) { message in
                    message.begin(type: RTM_DELADDR, flags: 0)
                    message.addressHeader(index: index, bytes: bytes, prefixLength: address.length)
                    message.attribute(IFA_LOCAL, bytes)
                }
            } catch {
                if error.errno != EADDRNOTAVAIL { throw error }
            }
        }
    }

    /// Switches IPv6 on where it was switched off for this device. By /proc: rtnetlink only shows it.
    public func enableIPv6(in namespace: NetworkNamespace? = nil) throws(SystemError) {
        let path = "/proc/sys/net/ipv6/conf/\(name)/disable_ipv6"
        let hint = "/proc/sys may be read-only here: echo 0 >\(path) outside of the container"
        // Of /proc/sys/net a thread sees its own namespace's.
        try namespace.run { () throws(SystemError) in
            try Host.write("0\n", to: path, hint: hint)
        }
    }
}
