// Sets up a network of namespaces by rtnetlink: pairs of veth, addresses, routes.

import CLinux
import Glibc
import IP

/// One end of a pair of veth.
public struct VethEnd {
    public var name: String
    public var mtu: Int
    /// Its Ethernet address; nil: a random one.
    public var hardwareAddress: [UInt8]?
    /// nil: that of the socket.
    public var namespace: NetworkNamespace?

    public init(
        name: String, mtu: Int = 1500, hardwareAddress: [UInt8]? = nil, namespace: NetworkNamespace? = nil
    ) {
        self.name = name
        self.mtu = mtu
        self.hardwareAddress = hardwareAddress
        self.namespace = namespace
    }

    fileprivate func describe(_ message: NetlinkMessage) {
        message.attribute(IFLA_IFNAME, text: name)
        message.attribute(IFLA_MTU, UInt32(mtu))
        if let hardwareAddress { message.attribute(IFLA_ADDRESS, hardwareAddress) }
        if let namespace { message.attribute(IFLA_NET_NS_FD, UInt32(namespace.descriptor.number)) }
    }
}

extension NetlinkSocket {
    /// Makes a pair of veth. Its ends are down.
    public func addVeth(_ one: VethEnd, _ other: VethEnd) throws(SystemError) {
        try request(object: "\(one.name) and \(other.name)") { message in
            message.begin(type: RTM_NEWLINK, flags: UInt16(NLM_F_CREATE | NLM_F_EXCL))
            message.linkHeader(index: 0, up: false)
            one.describe(message)
            message.nest(IFLA_LINKINFO) { message in
                message.attribute(IFLA_INFO_KIND, text: "veth")
                message.nest(IFLA_INFO_DATA) { message in
                    message.nest(VETH_INFO_PEER) { message in
                        message.linkHeader(index: 0, up: false)
                        other.describe(message)
                    }
                }
            }
        }
    }

    /// Sets a link of the calling thread's namespace up.
    /// - Parameter mtu: nil: as it is.
    public func setUp(_ name: String, mtu: Int? = nil) throws(SystemError) {
        try request(object: name) { message in
            message.begin(type: RTM_NEWLINK, flags: 0)
            message.linkHeader(index: Int32(if_nametoindex(name)), up: true)
            if let mtu { message.attribute(IFLA_MTU, UInt32(mtu)) }
        }
    }

    /// Gives a link an address that is usable at once: IPv6 looks for no duplicate of it.
    /// - Parameter length: of the prefix that is on the link.
    public func addAddress(_ address: Address, length: Int, to name: String) throws(SystemError) {
        let bytes = address.bytes
        try request(object: name) { message in
            message.begin(type: RTM_NEWADDR, flags: UInt16(NLM_F_CREATE | NLM_F_REPLACE))
            message.addressHeader(
                index: Int32(if_nametoindex(name)), bytes: bytes, prefixLength: length,
                scope: RT_SCOPE_UNIVERSE)
            message.attribute(IFA_LOCAL, bytes)
            message.attribute(IFA_ADDRESS, bytes)
            message.attribute(IFA_FLAGS, UInt32(IFA_F_NODAD))
        }
    }

    /// Adds a route to the main table.
    /// - Parameters:
    ///   - gateway: nil: the prefix is on the link.
    ///   - name: the link; nil: the one that leads to the gateway.
    public func addRoute(
        to prefix: Prefix, via gateway: Address? = nil, through name: String? = nil
    ) throws(SystemError) {
        try request(object: "a route") { message in
            message.begin(type: RTM_NEWROUTE, flags: UInt16(NLM_F_CREATE | NLM_F_EXCL))
            message.routeHeader(isIPv4: prefix.isIPv4, prefixLength: prefix.length)
            message.attribute(RTA_DST.rawValue, prefix.bytes)
            if let gateway { message.attribute(RTA_GATEWAY.rawValue, gateway.bytes) }
            if let name { message.attribute(RTA_OIF.rawValue, if_nametoindex(name)) }
        }
    }

    /// Whether links take frames: the kernel looks at a carrier up to a second after the link was set up.
    public func areRunning(_ names: [String]) throws(SystemError) -> Bool {
        // IF_OPER_UP of linux/if.h
        let running = try links().filter { $0.state.operational == 6 }.map(\.name)
        return names.allSatisfy(running.contains)
    }
}
