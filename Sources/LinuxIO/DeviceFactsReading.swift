// Reads what the kernel holds of a TUN device and of a network namespace.

import CLinux
import Glibc
import IP
import Routing

extension DeviceFacts {
    /// - Parameter namespace: where it stands; nil: this thread's. Held for as long as this takes: a
    ///   socket that stayed in there would keep the namespace alive.
    /// - Returns: nil when there is no such device.
    public static func read(
        _ name: String, address: Prefix, in namespace: NetworkNamespace? = nil
    ) throws(SystemError) -> DeviceFacts? {
        try namespace.run { () throws(SystemError) in
            let index = Int32(if_nametoindex(name))
            guard index != 0 else { return nil }
            let netlink = try NetlinkSocket()
            let answer = try netlink.answer(to: name) { message in
                message.begin(type: RTM_GETLINK, flags: 0)
                message.linkHeader(index: index, up: false)
                message.attribute(IFLA_EXT_MASK, UInt32(RTEXT_FILTER_SKIP_STATS))
            } _: {
                NetlinkParser.device($0)
            }
            guard var facts = answer else { return nil }
            let (bytes, family) = (address.address.bytes, address.isIPv4 ? AF_INET : AF_INET6)
            facts.hasAddress = try netlink.addresses(of: index, family: family).contains {
                $0.bytes == bytes && $0.length == address.length
            }
            facts.namespace = NamespaceFacts.read()
            return facts
        }
    }
}

extension NamespaceFacts {
    /// Those of this thread's namespace. What cannot be read now, as without descriptors, is taken to be
    /// as it should.
    public static func read() -> NamespaceFacts {
        var facts = NamespaceFacts()
        facts.forwardsIPv4 = Host.sysctl("net.ipv4.ip_forward") != "0"
        let forwarding = "net.ipv6.conf.all.forwarding"
        facts.forwardsIPv6 = Host.hasSysctl(forwarding) ? Host.sysctl(forwarding) != "0" : nil
        facts.isIPv6Off = Host.sysctl("net.ipv6.conf.all.disable_ipv6") == "1"
        return facts
    }
}
