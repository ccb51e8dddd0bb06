// What is decided when others change a device of shuck's or a sysctl that it demands.

import Routing
import Settings
import Testing

@testable import HostPlan

@Suite("The watch of the host")
struct DeviceRepairTests {
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

    private static func device() throws -> Configuration.Device { try configuration().devices[0] }

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
    ) -> [String] {
        var facts = right
        change(&facts)
        return configuration.deviations(of: configuration.devices[0], facts).map(\.text)
    }

    @Test("everything that was set is compared")
    func deviations() throws {
        let here = try Self.configuration()
        #expect(Self.deviations(here) { _ in } == [])
        #expect(Self.deviations(here) { $0.isUp = false } == ["it is down"])
        #expect(Self.deviations(here) { $0.mtu = 1400 } == ["its mtu is 1400 instead of 1500"])
        #expect(Self.deviations(here) { $0.reversePath = 1 } == ["its rp_filter is 1 instead of 2"])
        #expect(Self.deviations(here) { $0.reversePath = 0 } == ["its rp_filter is 0 instead of 2"])
        #expect(Self.deviations(here) { $0.hasAddress = false } == ["its address 127.0.0.42/32 is gone"])
        #expect(Self.deviations(here) { $0.forwardsIPv4 = false } == ["its forwarding is 0 instead of 1"])
        #expect(Self.deviations(here) { $0.hasIPv6 = false } == ["its disable_ipv6 is 1 instead of 0"])
        #expect(
            Self.deviations(here) {
                $0.isUp = false
                $0.hasAddress = false
            } == ["it is down", "its address 127.0.0.42/32 is gone"])
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
        #expect(Self.deviations(pod) { $0.reversePath = 1 } == ["its rp_filter is 1 instead of 2"])
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
        // Nobody asked for IPv6; any destination is taken.
        let six = lacks(any) { $0.forwardsIPv6 = false }
        #expect(six.map(\.subject) == ["net.ipv6.conf.all.forwarding"] && !six[0].isBlocking)
        #expect(lacks(any) { $0.forwardsIPv6 = nil }.map(\.isBlocking) == [false])
        let named = try Self.configuration(
            destinations: #", destinations: [{prefix: "2001:db8::/32"}]"#)
        #expect(lacks(named) { $0.forwardsIPv6 = false }.map(\.isBlocking) == [true])
        #expect(lacks(named) { $0.forwardsIPv4 = false } == [])
        let named4 = try Self.configuration(destinations: ", destinations: [{prefix: 192.0.2.0/24}]")
        #expect(lacks(named4) { $0.forwardsIPv6 = nil } == [])
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
            return [configuration.lack(of: configuration.devices[0], facts)].compactMap(\.self)
        }
        let named = #", destinations: [{prefix: "2001:db8::/32"}]"#
        let here = lacks(try Self.configuration(destinations: named))
        #expect(here.map(\.isBlocking) == [true])
        #expect(here[0].description.hasSuffix("shuck0: sysctl -w net.ipv6.conf.all.disable_ipv6=0"))
        #expect(lacks(try Self.configuration()).map(\.isBlocking) == [false])
        let pod = lacks(
            try Self.configuration("[{name: pod0, netns: /run/netns/x}]", destinations: named))
        #expect(pod.map(\.isBlocking) == [false])
        #expect(pod[0].description.contains("nsenter --net=/run/netns/x sysctl -w"))
        #expect(lacks(try Self.configuration(destinations: ", modes: [ipip]")) == [])
    }

    @Test("three times at once, then at growing distances, and after a quiet minute from the beginning")
    func repairs() throws {
        let device = try Self.device()
        let second: UInt64 = 1_000_000_000
        var repairs = DeviceRepairs()
        func permit(_ found: [DeviceDeviation], at now: UInt64) -> Bool { repairs.permit(found, at: now) }
        let down = [DeviceDeviation(aspect: .state, text: "it is down")]
        for _ in 0..<3 {
            #expect(permit(down, at: 100 * second))
            #expect(repairs.finding(device, left: []) == nil)
        }
        var now = 100 * second
        for distance: UInt64 in [1, 2, 4, 8, 16, 32, 60, 60, 60] {
            #expect(!permit(down, at: now + distance * second - 1))
            now += distance * second
            #expect(permit(down, at: now), "\(distance)")
            #expect(repairs.finding(device, left: []) != nil)
        }
        #expect(!permit([], at: now + 60 * second - 1))
        #expect(repairs.finding(device, left: []) != nil)
        #expect(!permit([], at: now + 60 * second) && repairs == DeviceRepairs())
    }

    @Test("what must wait is set right beside what need not")
    func together() throws {
        let device = try Self.device()
        let second: UInt64 = 1_000_000_000
        var repairs = DeviceRepairs()
        func permit(_ found: [DeviceDeviation], at now: UInt64) -> Bool { repairs.permit(found, at: now) }
        let down = DeviceDeviation(aspect: .state, text: "it is down")
        let filter = DeviceDeviation(aspect: .reversePath, text: "its rp_filter is 1 instead of 2")
        for _ in 0..<3 { #expect(permit([down], at: second)) }
        #expect(!permit([down], at: second))
        #expect(permit([down, filter], at: second))
        // The fourth time within a moment: from now on it is named.
        #expect(repairs.finding(device, left: [])?.text.contains("it is down: something") == true)
    }

    @Test("what is contested or could not be set right is named")
    func unmended() throws {
        let device = try Self.device()
        let second: UInt64 = 1_000_000_000
        func deviation(_ aspect: DeviceDeviation.Aspect, _ text: String) -> DeviceDeviation {
            DeviceDeviation(aspect: aspect, text: text)
        }
        let filter = deviation(.reversePath, "its rp_filter is 1 instead of 2")
        func unmended(
            _ device: Configuration.Device, contested: [DeviceDeviation] = [],
            left: [DeviceDeviation] = [], failure: String? = nil
        ) -> [Finding] {
            var repairs = DeviceRepairs()
            for time in 0..<4 where !contested.isEmpty {
                _ = repairs.permit(contested, at: UInt64(time) * 60 * second)
            }
            return [repairs.finding(device, left: left, failure: failure)].compactMap(\.self)
        }
        #expect(unmended(device) == [])
        let off = deviation(.ipv6, "its disable_ipv6 is 1 instead of 0")
        let failed = unmended(device, left: [off], failure: "read-only")
        #expect(failed.map(\.isBlocking) == [true])
        #expect(failed[0].text.contains("its disable_ipv6 is 1 instead of 0: it could not"))
        #expect(failed[0].text.hasSuffix("read-only"))
        let small = unmended(device, left: [deviation(.mtu, "its mtu is 9 instead of 1500")], failure: "x")
        #expect(small.map(\.isBlocking) == [false])
        let contested = unmended(device, contested: [filter])
        #expect(contested.map(\.isBlocking) == [false])
        #expect(contested[0].text.contains("its rp_filter is 1 instead of 2: something on this host"))
        // The same words while it is wrong: the log says them once.
        let wrong = unmended(device, contested: [filter], left: [filter])
        #expect(wrong.map(\.text) == contested.map(\.text) && wrong[0].isBlocking)
        var pod = device
        pod.netns = "/run/netns/x"
        #expect(unmended(pod, left: [deviation(.state, "it is down")]).map(\.isBlocking) == [false])
    }
}
