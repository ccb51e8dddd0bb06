// What a configuration needs of a host, and the steps that lead there, from values alone.

import Forwarding
import Routing
import Settings
import Testing

@testable import HostPlan

@Suite("Host plan")
struct HostPlanTests {
    private static func configuration(
        interfaces: String = "eth0", devices: String = "{name: shuck0}", _ more: String = ""
    ) throws -> Configuration {
        let text = """
            interfaces: [\(interfaces)]
            devices: [\(devices)]
            tunnels: [{name: lvs, local: [192.0.2.2], remotes: [192.0.2.64/28],
              destinations: [{prefix: 10.0.0.1}]}]
            \(more)

            """
        let (configuration, problems) = Configuration.load(files: [("c.yaml", text)])
        return try #require(configuration, "\(problems)")
    }

    private static func facts(_ names: [String] = ["eth0"], workers: Int = 2) -> HostFacts {
        HostFacts(
            links: names.enumerated().map { index, name in
                Link(index: Int32(index + 2), name: name, mtu: 1500, isUp: true, hardwareType: 1)
            },
            cpus: Array(0..<workers))
    }

    private static func present(_ plan: HostPlan) -> [Resource.Key: Resource] {
        Dictionary(plan.resources.map { ($0.key, $0) }, uniquingKeysWith: { first, _ in first })
    }

    private static func actions(
        from old: (Configuration, HostFacts), to new: (Configuration, HostFacts),
        waiting: Set<Part> = []
    ) -> [Action] {
        let before = HostPlan(old.0, old.1)
        return HostPlan(new.0, new.1, present: present(before), waiting: waiting).actions
    }

    @Test("from nothing all is opened: what nobody sees first, then frames and claims")
    func fromNothing() throws {
        let plan = HostPlan(try Self.configuration(), Self.facts())
        #expect(plan.actions.allSatisfy { if case .open = $0 { true } else { false } })
        #expect(
            plan.actions.map(\.resource.key) == [
                .hold(2), .rings("eth0"), .device("shuck0"), .settings("shuck0"), .filter("eth0"),
                .claim("eth0"),
            ])
        let phases = plan.actions.map(\.phase)
        #expect(phases == phases.sorted())
    }

    @Test("what is as it should be needs no step, and a changed setting needs one")
    func differences() throws {
        let old = try Self.configuration()
        #expect(Self.actions(from: (old, Self.facts()), to: (old, Self.facts())) == [])
        let new = try Self.configuration(devices: "{name: shuck0, mtu: 4000}")
        let actions = Self.actions(from: (old, Self.facts()), to: (new, Self.facts()))
        #expect(actions.map(\.resource.key) == [.settings("shuck0")])
        #expect(actions.map(\.phase) == [.share])
        #expect(actions[0].text.hasPrefix("change: mtu 1500 and address 127.0.0.42/32 of shuck0"))
    }

    @Test("an interface that comes is opened, and one that goes is closed last")
    func comeAndGo() throws {
        let facts = Self.facts(["eth0", "eth1"])
        let (one, other) = (try Self.configuration(), try Self.configuration(interfaces: "eth1"))
        let actions = Self.actions(from: (one, facts), to: (other, facts))
        let texts = actions.map(\.text)
        #expect(texts.filter { $0.hasPrefix("open: ") }.count == 4)
        let firstClose = try #require(texts.firstIndex { $0.hasPrefix("close: ") })
        #expect(texts[firstClose...].allSatisfy { $0.hasPrefix("close: ") && $0.contains("eth0") })
        #expect(texts[firstClose...].count == 4)
    }

    @Test("rings stay, whatever size they would be given today, until the interface is another one")
    func ringsStay() throws {
        let old = (try Self.configuration(), Self.facts(["eth0"], workers: 16))
        var links = Self.facts(["eth0", "eth1"], workers: 16)
        let new = try Self.configuration(interfaces: "eth0, eth1")
        let opened = Self.actions(from: old, to: (new, links)).map(\.resource.key)
        #expect(!opened.contains(.rings("eth0")) && opened.contains(.rings("eth1")))
        links.links[0].mtu = 9000
        #expect(!Self.actions(from: old, to: (new, links)).map(\.resource.key).contains(.rings("eth0")))
        links.links[0].index = 9
        #expect(Self.actions(from: old, to: (new, links)).map(\.resource.key).contains(.rings("eth0")))
    }

    @Test("a device waits for its pod, stays when only the path goes, and follows to the next pod")
    func pods() throws {
        let configuration = try Self.configuration(devices: "{name: pod0, netns: /run/netns/x}")
        var facts = Self.facts()
        let waiting = HostPlan(configuration, facts)
        #expect(waiting.awaited.keys.map { $0 } == [.device("pod0")])
        #expect(!waiting.actions.map(\.resource.key).contains(.device("pod0")))
        facts.namespaces["/run/netns/x"] = .present(NamespaceIdentity(device: 4, inode: 1))
        let there = HostPlan(configuration, facts)
        #expect(there.actions.map(\.resource.key).contains(.errors))
        facts.namespaces["/run/netns/x"] = .absent("ENOENT")
        #expect(HostPlan(configuration, facts, present: Self.present(there)).actions == [])
        facts.namespaces["/run/netns/x"] = .present(NamespaceIdentity(device: 4, inode: 2))
        let next = HostPlan(configuration, facts, present: Self.present(there)).actions
        #expect(
            next.map(\.resource.key) == [
                .device("pod0"), .settings("pod0"), .device("pod0"), .settings("pod0"),
            ])
        #expect(next.map(\.phase) == [.prepare, .prepare, .retire, .retire])
    }

    @Test("a program that is refused leaves its interface to raw sockets, unless it is required")
    func claims() throws {
        let facts = Self.facts()
        let auto = HostPlan(try Self.configuration(), facts, waiting: [.claim("eth0")])
        #expect(auto.socketInterfaces == [0])
        #expect(auto.resources.last == .socketClaim([[192, 0, 2, 2]]))
        let required = try Self.configuration("consume: bpf")
        let held = Self.present(HostPlan(required, facts))
        let other = try Self.configuration("consume: bpf\ninner: {deny: [10.9.0.0/16]}")
        let waiting = HostPlan(other, facts, present: held, waiting: [.claims])
        #expect(waiting.resources.contains { $0.key == .claim("eth0") } && waiting.socketInterfaces == [])
        #expect(HostPlan(required, facts, waiting: [.claims]).resources.allSatisfy { $0.part != .claims })
    }

    @Test("a shadow holds and claims nothing")
    func shadow() throws {
        let plan = HostPlan(try Self.configuration("mode: shadow"), Self.facts())
        #expect(
            plan.resources.map(\.key) == [
                .rings("eth0"), .device("shuck0"), .settings("shuck0"), .filter("eth0"),
            ])
    }

    @Test("probes of the configuration before come in until no worker runs on it")
    func natives() throws {
        let rule = { (number: Int) in
            """
            inner: {rewriteSources: [{interface: eth0, from: fe80::\(number), to: "2001:db8::\(number)"}]}
            """
        }
        let (old, new) = (try Self.configuration(rule(1)), try Self.configuration(rule(2)))
        func count(_ plan: HostPlan) -> Int? {
            plan.resources.lazy.compactMap { resource in
                if case .filter(_, _, let natives) = resource { natives.count } else { nil }
            }.first
        }
        #expect(count(HostPlan(new, Self.facts(), beside: old)) == 2)
        #expect(count(HostPlan(new, Self.facts())) == 1)
        let keys = HostPlan(new, Self.facts()).actions.map(\.resource.key)
        #expect(keys.contains(.reading) && keys.contains(.returnSocket("eth0")))
    }

    @Test(
        "what cannot be had refuses a start or a reload as its part has it",
        arguments: [
            (Part.interface("eth0"), true, false, true), (.interface("eth0"), false, true, true),
            (.interface("eth0"), false, false, false), (.device("shuck0"), true, false, true),
            (.device("shuck0"), false, true, false), (.claims, false, false, true),
            (.claim("eth0"), true, false, false), (.replyTable, false, false, true),
        ])
    func refusals(part: Part, isPermission: Bool, isTaken: Bool, starts: Bool) {
        func refuses(_ occasion: Occasion, wasAbsent: Bool = false) -> Bool {
            part.refuses(occasion, isPermission: isPermission, isTaken: isTaken, wasAbsent: wasAbsent)
        }
        #expect(refuses(.start) == starts)
        #expect(!refuses(.follow))
        let falls = part == .claim("eth0")
        #expect(refuses(.reload) == !falls && !refuses(.reload, wasAbsent: true))
    }
}
