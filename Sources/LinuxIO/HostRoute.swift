// A route to one IPv6 address through a device, made by us and removed by us.

import CLinux
import Glibc

/// A route that is there until it is removed. It also goes with its device.
public final class HostRoute {
    private let address: [UInt8]
    private let device: Int32

    /// - Parameter address: IPv6, 16 bytes, network order.
    /// - Parameter text: the address as messages show it.
    public init(to address: [UInt8], text: String, device: Int32) throws(SystemError) {
        self.address = address
        self.device = device
        do throws(SystemError) {
            try Self.add(address, device, text)
        } catch {
            // It may be there although its acknowledgement could not be read.
            if error.errno != EEXIST { try? remove() }
            throw SystemError(
                "route", text, errno: error.errno, hint: Self.hint(error.errno, text) ?? error.hint)
        }
    }

    /// A route that another process made and handed over.
    public init(adopting address: [UInt8], device: Int32) {
        self.address = address
        self.device = device
    }

    private static func hint(_ number: Int32, _ text: String) -> String? {
        switch number {
        case EEXIST:
            """
            another route to it is there already: remove it (ip -6 route del \(text)), or choose \
            another address under inner.rewriteSources
            """
        case ENODEV, EINVAL, EACCES, EOPNOTSUPP:
            """
            IPv6 is off on the device: set its mtu to 1280 or more, and \
            sysctl net.ipv6.conf.default.disable_ipv6=0
            """
        default: nil
        }
    }

    /// Removes it; one that went with its device is no error.
    public func remove() throws(SystemError) {
        do throws(SystemError) {
            try NetlinkSocket().request(object: "route") { message in
                message.begin(type: RTM_DELROUTE, flags: 0)
                Self.describe(message, self.address, self.device)
            }
        } catch {
            if ![ESRCH, ENODEV].contains(error.errno) { throw error }
        }
    }

    /// Makes it again where it went: the kernel removes the routes of a device that is set down.
    public func restore() {
        try? Self.add(address, device, "route")
    }

    private static func add(
        _ address: [UInt8], _ device: Int32, _ object: String
    ) throws(SystemError) {
        let netlink = try NetlinkSocket()
        try netlink.request(object: object) { message in
            message.begin(type: RTM_NEWROUTE, flags: UInt16(NLM_F_CREATE | NLM_F_EXCL))
            describe(message, address, device)
        }
    }

    private static func describe(_ message: NetlinkMessage, _ address: [UInt8], _ device: Int32) {
        message.routeHeader(isIPv4: false, prefixLength: 128)
        message.attribute(RTA_DST.rawValue, address)
        message.attribute(RTA_OIF.rawValue, UInt32(device))
    }
}
