// What is decided when others change a device of shuck's or a sysctl that it demands, and what the kernel
// tells of a device.

import Foundation
import Glibc
import HostPlan
import IP
import Routing
import Settings
import Testing

@testable import Daemon
@testable import LinuxIO

@Suite("The watch of the host")
struct HostWatchTests {
    private static func configuration(
        _ devices: String = "[{name: shuck0}]", destinations: String = ""
    ) throws -> Configuration {
        let text = """
            interfaces: [eth0]
            tunnels: [{name: lvs, local: [192.0.2.2], remotes: [192.0.2.1]\(destinations)}]
            devices: \(devices)
            """
        let (configuration, problems) = Configuration.load(files: [("shuck.yaml", text)])
        return try #require(configuration, "\(problems)")
    }

    private static var right: DeviceFacts {
        var facts = DeviceFacts(isUp: true, mtu: 1500)
        facts.reversePath = 2
        facts.forwardsIPv4 = true
        facts.hasIPv6 = true
        facts.hasAddress = true
        return facts
    }

    private static func deviations(
        _ configuration: Configuration, _ change: (inout DeviceFacts) -> Void
    ) -> [DeviceDeviation] {
        var facts = right
        change(&facts)
        return HostWatch.deviations(configuration.devices[0], configuration, facts)
    }

    @Test("everything that was set is compared")
    func deviations() throws {
        let here = try Self.configuration()
        #expect(Self.deviations(here) { _ in } == [])
        #expect(Self.deviations(here) { $0.isUp = false } == [.isDown])
        #expect(Self.deviations(here) { $0.mtu = 1400 } == [.mtu(1400, instead: 1500)])
        #expect(Self.deviations(here) { $0.reversePath = 1 } == [.reversePath(1)])
        #expect(Self.deviations(here) { $0.reversePath = 0 } == [.reversePath(0)])
        #expect(Self.deviations(here) { $0.hasAddress = false } == [.noAddress("127.0.0.42/32")])
        #expect(Self.deviations(here) { $0.forwardsIPv4 = false } == [.noForwarding])
        #expect(Self.deviations(here) { $0.hasIPv6 = false } == [.noIPv6])
        #expect(
            Self.deviations(here) {
                $0.isUp = false
                $0.hasAddress = false
            } == [.isDown, .noAddress("127.0.0.42/32")])
    }

    @Test("what all of a namespace's devices have is not shuck's to change")
    func whatIsNotOurs() throws {
        let here = try Self.configuration()
        // With ip_forward the kernel sets forwarding of every device.
        #expect(
            Self.deviations(here) {
                $0.forwardsIPv4 = false
                $0.namespace.forwardsIPv4 = false
            } == [])
        #expect(
            Self.deviations(here) {
                $0.hasIPv6 = false
                $0.namespace.isIPv6Off = true
            } == [])
        #expect(
            Self.deviations(here) {
                $0.hasIPv6 = false
                $0.namespace.forwardsIPv6 = nil
            } == [])
        // No device of that mtu has IPv6.
        let small = try Self.configuration("[{name: shuck0, mtu: 1200}]")
        #expect(
            Self.deviations(small) {
                $0.hasIPv6 = false
                $0.mtu = 1200
            } == [])
        // Within a pod nothing is forwarded, and IPv6 is not brought in.
        let pod = try Self.configuration(
            "[{name: pod0, netns: /run/netns/x}]", destinations: ", modes: [ipip]")
        #expect(
            Self.deviations(pod) {
                $0.forwardsIPv4 = false
                $0.hasIPv6 = false
            } == [])
        #expect(Self.deviations(pod) { $0.reversePath = 1 } == [.reversePath(1)])
    }

    @Test("what the host must do is named with the command that mends it")
    func lacks() throws {
        func lacks(
            _ configuration: Configuration, _ change: (inout NamespaceFacts) -> Void
        ) -> [Finding] {
            var facts = NamespaceFacts()
            change(&facts)
            return configuration.lacks(facts)
        }
        let any = try Self.configuration()
        #expect(lacks(any) { _ in } == [])
        let four = lacks(any) { $0.forwardsIPv4 = false }
        #expect(four.map(\.subject) == ["net.ipv4.ip_forward"])
        #expect(four[0].isBlocking && four[0].description.hasSuffix("sysctl -w net.ipv4.ip_forward=1"))
        // Nobody asked for IPv6; its modes were left in.
        let six = lacks(any) { $0.forwardsIPv6 = false }
        #expect(six.map(\.subject) == ["net.ipv6.conf.all.forwarding"] && !six[0].isBlocking)
        #expect(lacks(any) { $0.forwardsIPv6 = nil }.map(\.isBlocking) == [false])
        let named = try Self.configuration(
            destinations: #", destinations: [{prefix: "2001:db8::/32"}]"#)
        #expect(lacks(named) { $0.forwardsIPv6 = false }.map(\.isBlocking) == [true])
        let pod = try Self.configuration("[{name: pod0, netns: /run/netns/x}]")
        #expect(
            lacks(pod) {
                $0.forwardsIPv4 = false
                $0.forwardsIPv6 = false
            } == [])
        let only4 = try Self.configuration(destinations: ", modes: [ipip]")
        #expect(lacks(only4) { $0.forwardsIPv6 = false } == [])
    }

    @Test("IPv6 that is off for a whole namespace is named, in a pod's too")
    func noIPv6() throws {
        func lacks(_ configuration: Configuration) -> [Finding] {
            var facts = Self.right
            facts.hasIPv6 = false
            facts.namespace.isIPv6Off = true
            return HostWatch.lacks(configuration.devices[0], configuration, facts)
        }
        let named = #", destinations: [{prefix: "2001:db8::/32"}]"#
        let here = lacks(try Self.configuration(destinations: named))
        #expect(here.map(\.isBlocking) == [true])
        #expect(here[0].text.hasSuffix("shuck0: sysctl -w net.ipv6.conf.all.disable_ipv6=0"))
        #expect(lacks(try Self.configuration()).map(\.isBlocking) == [false])
        let pod = lacks(
            try Self.configuration("[{name: pod0, netns: /run/netns/x}]", destinations: named))
        #expect(pod.map(\.isBlocking) == [false])
        #expect(pod[0].text.contains("nsenter --net=/run/netns/x sysctl -w"))
        #expect(lacks(try Self.configuration(destinations: ", modes: [ipip]")) == [])
    }

    @Test("three times at once, then at growing distances, and after a quiet minute from the beginning")
    func repairs() {
        let second: UInt64 = 1_000_000_000
        var repairs = Repairs()
        for _ in 0..<3 {
            #expect(repairs.mayRepair(at: 100 * second) && !repairs.isContested)
            repairs.repaired(.isDown, at: 100 * second)
        }
        var now = 100 * second
        for distance: UInt64 in [1, 2, 4, 8, 16, 32, 60, 60, 60] {
            #expect(!repairs.mayRepair(at: now + distance * second - 1))
            now += distance * second
            #expect(repairs.mayRepair(at: now), "\(distance)")
            repairs.repaired(.reversePath(1), at: now)
            #expect(repairs.isContested)
        }
        repairs.sawRight(at: now + 60 * second - 1)
        #expect(repairs.isContested && repairs.last == .reversePath(1))
        repairs.sawRight(at: now + 60 * second)
        #expect(repairs == Repairs())
    }

    @Test("what is contested or could not be set right is named")
    func unmended() throws {
        let device = try Self.configuration().devices[0]
        func unmended(
            _ device: Configuration.Device, contested: [DeviceDeviation] = [],
            left: [DeviceDeviation] = [], failure: String? = nil
        ) -> [Finding] {
            HostWatch.unmended(device, contested: contested, left: left, failure: failure)
        }
        #expect(unmended(device) == [])
        let failed = unmended(device, left: [.noIPv6], failure: "read-only")
        #expect(failed.map(\.isBlocking) == [true])
        #expect(failed[0].text.contains("its disable_ipv6 is 1 instead of 0: it could not"))
        #expect(failed[0].text.hasSuffix("read-only"))
        let small = unmended(device, left: [.mtu(9, instead: 1500)], failure: "x")
        #expect(small.map(\.isBlocking) == [false])
        let contested = unmended(device, contested: [.reversePath(1)])
        #expect(contested.map(\.isBlocking) == [false])
        #expect(contested[0].text.contains("its rp_filter is 1 instead of 2: something on this host"))
        // The same words while it is wrong: the log says them once.
        let wrong = unmended(device, contested: [.reversePath(1)], left: [.reversePath(1)])
        #expect(wrong.map(\.text) == contested.map(\.text) && wrong[0].isBlocking)
        var pod = device
        pod.netns = "/run/netns/x"
        #expect(unmended(pod, left: [.isDown]).map(\.isBlocking) == [false])
    }
}

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
