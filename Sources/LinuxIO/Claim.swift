// Keeps the kernel from answering for frames that are ours: a program at ingress, or raw sockets.
// AF_PACKET is a tap: without a claim the kernel sees each frame too, and refuses it by ICMP.

import CLinux
import Glibc
import IP
import Synchronization

/// Held while frames of one interface are claimed; its end ends the claim.
public final class Claim {
    public enum Means: String, Sendable, Codable {
        /// A BPF link on the tcx hook, Linux 6.6: it dies with its descriptor.
        case tcx
        /// A filter on a clsact queueing discipline: it outlives a killed process.
        case clsact
        /// Raw sockets that drop all: they stop the ICMP, not a second delivery.
        case socket
    }

    public let means: Means
    public let descriptors: [Descriptor]
    private let filter: ClsactFilter?
    /// Of a filter on clsact: by what it is told from others.
    public var filterHandle: UInt32? { filter?.handle }

    private init(means: Means, descriptors: [Descriptor], filter: ClsactFilter? = nil) {
        self.means = means
        self.descriptors = descriptors
        self.filter = filter
    }

    /// A claim that another process made and handed over.
    /// - Parameter filterHandle: of a filter on clsact.
    public init(
        adopting descriptors: [Descriptor], means: Means, interface: String, index: Int32,
        filterHandle: UInt32?
    ) {
        self.means = means
        self.descriptors = descriptors
        filter = filterHandle.map { ClsactFilter(adopting: $0, interface: interface, index: index) }
    }

    /// Ends the claim where the end of its descriptors does not: call it before the last reference goes.
    public func remove() throws(SystemError) { try filter?.remove() }

    /// Claims by a program: tcx where the kernel has it, else clsact.
    public static func byProgram(
        _ program: FilterProgram, interface: String, index: Int32, allowClsact: Bool
    ) throws(SystemError) -> Claim {
        let program = try program.load(object: interface)
        do throws(SystemError) {
            let link = try attachTCX(program, interface, index)
            return Claim(means: .tcx, descriptors: [program, link])
        } catch let error {
            guard allowClsact else { throw error }
        }
        return Claim(
            means: .clsact, descriptors: [program],
            filter: try ClsactFilter(program, interface: interface, index: index))
    }

    private static func attachTCX(
        _ program: Descriptor, _ interface: String, _ index: Int32
    ) throws(SystemError) -> Descriptor {
        var attributes = bpf_attr()
        attributes.link_create.prog_fd = UInt32(program.number)
        attributes.link_create.target_ifindex = UInt32(index)
        attributes.link_create.attach_type = UInt32(CLINUX_BPF_TCX_INGRESS)
        // First in line: an earlier program that accepts would hide our frames from us.
        attributes.link_create.flags = UInt32(1 << 3)  // BPF_F_BEFORE
        return Descriptor(
            try BPF.call(
                BPF_LINK_CREATE, &attributes, "bpf(BPF_LINK_CREATE tcx)", interface,
                hint: "Linux 6.6 or newer is needed, or set consume: socket"))
    }

    /// Claims by raw sockets bound to each address: the IP stack finds a taker and stays silent.
    /// - Parameter addresses: local addresses, 4 or 16 bytes each, network order.
    public static func bySockets(_ addresses: [[UInt8]]) throws(SystemError) -> Claim {
        var descriptors: [Descriptor] = []
        for address in addresses {
            for number in ProtocolNumber.tunnels.map(Int32.init) {
                descriptors.append(try rawSocket(address, protocolNumber: number))
            }
        }
        return Claim(means: .socket, descriptors: descriptors)
    }

    /// linux/in6.h IPV6_FREEBIND, which Glibc leaves out.
    private static let freebindIPv6: Int32 = 78

    private static func rawSocket(
        _ address: [UInt8], protocolNumber: Int32
    ) throws(SystemError) -> Descriptor {
        let isIPv4 = address.count == 4
        let object = "protocol \(protocolNumber)"
        let descriptor = Descriptor(
            try check("socket(SOCK_RAW)", object, grant: "grant CAP_NET_RAW") {
                Sockets.open(isIPv4 ? AF_INET : AF_INET6, .raw, protocolNumber)
            })
        try SocketFilter.attach(SocketFilter.nothing, to: descriptor, object)
        // The address may come later than we do (a VIP that a routing daemon brings).
        try descriptor.setOption(
            isIPv4 ? SOL_IP : SOL_IPV6, isIPv4 ? IP_FREEBIND : Self.freebindIPv6, Int32(1),
            "setsockopt(IP_FREEBIND)", object)
        try check("bind(SOCK_RAW)", object) {
            Sockets.withAddress(ip: address) { bind(descriptor.number, $0, $1) }
        }
        return descriptor
    }
}

/// A direct-action BPF filter on clsact ingress, and the discipline itself where we added it.
final class ClsactFilter {
    static let name = "shuck-claim"
    /// The first, so that no other filter of the hook that accepts can hide our frames.
    static let priority: UInt32 = 1
    /// Filters of one priority are told apart by handle; an old one may go after a new one came.
    private static let handles = Atomic<UInt32>(1)
    private let interface: String
    private let index: Int32
    fileprivate let handle: UInt32

    init(_ program: Descriptor, interface: String, index: Int32) throws(SystemError) {
        self.interface = interface
        self.index = index
        handle = Self.handles.wrappingAdd(1, ordering: .relaxed).newValue
        let netlink = try NetlinkSocket()
        do throws(SystemError) {
            try netlink.request(object: interface) { message in
                message.begin(
                    type: RTM_NEWQDISC, flags: UInt16(NLM_F_CREATE | NLM_F_EXCL))
                message.extraHeader(tcmsg.self) { traffic in
                    traffic.tcm_ifindex = index
                    traffic.tcm_parent = CLINUX_TC_H_CLSACT
                    traffic.tcm_handle = 0xffff_0000
                }
                message.attribute(TCA_KIND, text: "clsact")
            }
        } catch {
            // A discipline that is there already is somebody else's.
            if error.errno != EEXIST { throw error }
        }
        do throws(SystemError) {
            try attach(program, netlink)
        } catch {
            // It may be there although its acknowledgement could not be read: then it drops frames.
            try? remove()
            throw error
        }
    }

    /// Those that are made from now on have other handles.
    init(adopting handle: UInt32, interface: String, index: Int32) {
        self.interface = interface
        self.index = index
        self.handle = handle
        _ = Self.handles.max(handle, ordering: .relaxed)
    }

    private func attach(_ program: Descriptor, _ netlink: NetlinkSocket) throws(SystemError) {
        try netlink.request(object: interface) { message in
            // Takes the place of one that a killed process left behind.
            message.begin(type: RTM_NEWTFILTER, flags: UInt16(NLM_F_CREATE))
            self.header(message)
            message.attribute(TCA_KIND, text: "bpf")
            message.nest(TCA_OPTIONS) { options in
                options.attribute(TCA_BPF_FD, UInt32(program.number))
                options.attribute(TCA_BPF_NAME, text: Self.name)
                options.attribute(TCA_BPF_FLAGS, UInt32(TCA_BPF_FLAG_ACT_DIRECT))
            }
        }
    }

    private func header(_ message: NetlinkMessage) {
        message.extraHeader(tcmsg.self) { traffic in
            traffic.tcm_ifindex = index
            traffic.tcm_parent = CLINUX_TC_H_MIN_INGRESS_PARENT
            traffic.tcm_handle = handle
            traffic.tcm_info = Self.priority << 16 | UInt32(UInt16(ETH_P_ALL).bigEndian)
        }
    }

    /// Removes the filter. The discipline stays: others may use it by now, and empty it costs
    /// nothing. A filter that went with its interface is no error.
    func remove() throws(SystemError) {
        do throws(SystemError) {
            try NetlinkSocket().request(object: interface) { message in
                message.begin(type: RTM_DELTFILTER, flags: 0)
                self.header(message)
                message.attribute(TCA_KIND, text: "bpf")
            }
        } catch {
            if ![ENOENT, ENODEV, EINVAL].contains(error.errno) { throw error }
        }
    }
}
