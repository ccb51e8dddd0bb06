// What the kernel tells of a device and of changes of settings.

import Foundation
import Glibc
import HostPlan
import IP
import Routing
import Settings
import Testing

@testable import Daemon
@testable import LinuxIO

extension OnHost {
    @Suite struct DeviceFactsTests {
        @Test func theyAreWhatTheKernelHas() throws {
            try Network.with { _ in
                try Network.run("sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=0")
                let device = try TunDevice(name: "facts0", queues: 1)
                let address = Prefix(host: Address(ipv4: 0x7f00_002a))
                try device.configure(mtu: 1400, address: address)
                func read() throws -> DeviceFacts {
                    try #require(try DeviceFacts.read("facts0", address: address))
                }
                var facts = try read()
                #expect(facts.isUp && facts.mtu == 1400 && facts.reversePath == 2)
                #expect(facts.forwardsIPv4 && facts.hasIPv6 && facts.hasAddress)
                #expect(facts.namespace.forwardsIPv4 && facts.namespace.forwardsIPv6 == false)
                #expect(!facts.namespace.isIPv6Off)
                try Network.run(
                    """
                    ip link set facts0 down mtu 1300
                    sysctl -qw net.ipv4.conf.facts0.rp_filter=1 net.ipv4.conf.facts0.forwarding=0
                    sysctl -qw net.ipv6.conf.facts0.disable_ipv6=1
                    ip address flush dev facts0
                    ip address add 127.0.0.42/8 dev facts0
                    """)
                facts = try read()
                #expect(!facts.isUp && facts.mtu == 1300 && facts.reversePath == 1)
                // The same address with another length is another.
                #expect(!facts.forwardsIPv4 && !facts.hasIPv6 && !facts.hasAddress)
                try device.configure(mtu: 1400, address: address, forwards: true)
                try device.enableIPv6()
                facts = try read()
                #expect(facts.isUp && facts.mtu == 1400 && facts.reversePath == 2)
                #expect(facts.forwardsIPv4 && facts.hasIPv6 && facts.hasAddress)
                // Below 1280 bytes there is no IPv6.
                try Network.run("ip link set facts0 mtu 1279")
                #expect(try !read().hasIPv6)
                try Network.run("sysctl -qw net.ipv6.conf.all.disable_ipv6=1")
                #expect(try read().namespace.isIPv6Off)
                #expect(try DeviceFacts.read("gone0", address: address) == nil)
            }
        }

        @Test func settingsAreTold() throws {
            try Network.with { _ in
                let notices = try NetlinkSocket.notices()
                func told(_ change: String) throws -> KernelNotices {
                    _ = notices.takeNotices()
                    try Network.run(change)
                    #expect(Host.waitReadable([notices.descriptor], milliseconds: 2000) == [true])
                    return notices.takeNotices()
                }
                let four = "/proc/sys/net/ipv4/conf"
                let six = "/proc/sys/net/ipv6/conf"
                #expect(try told("echo 1 >\(four)/near/rp_filter").settings)
                #expect(try told("echo 1 >/proc/sys/net/ipv4/ip_forward").settings)
                #expect(try told("echo 1 >\(six)/all/forwarding").settings)
                for path in [four, six] {
                    for scope in ["near", "all"] {
                        let notice = try told("echo 1 >\(path)/\(scope)/ignore_routes_with_linkdown")
                        #expect(notice.linkdownRule && !notice.settings, "\(path) \(scope)")
                    }
                }
                // All of its settings at once; it has no routes yet.
                let new = try told("ip link add side type veth peer name away")
                #expect(new.settings && !new.linkdownRule)
            }
        }
    }
}
