// One judge for each frame: who holds an interface, who may not, and which interfaces are the same.

import CLinux
import Glibc
import Routing
import Testing

@testable import Daemon
@testable import LinuxIO
@testable import Settings

@Suite(
    "Interface guards", .serialized,
    .enabled(if: networkMissing == nil, Comment(rawValue: networkMissing ?? "")))
struct InterfaceGuardTests {
    private func open(_ index: Int32) throws -> InterfaceGuard {
        try InterfaceGuard(interface: "near", index: index, holder: "process 1, unit a.service, host b")
    }

    @Test("a second one of an interface is refused and told who has it, until that goes")
    func aSecondOne() throws {
        try Network.with { network in
            var first: InterfaceGuard? = try open(network.near)
            #expect {
                _ = try open(network.near)
            } throws: { error in
                let text = "\(error)"
                return text.hasPrefix("receive on near: ")
                    && text.contains("process \(getpid()), unit a.service, host b;")
                    && text.contains("leave near out of interfaces here")
            }
            // Another interface is another one's business.
            _ = try open(network.far)
            withExtendedLifetime(first) {}
            first = nil
            _ = try open(network.near)
        }
        // The same number in another namespace is another interface.
        try Network.with { network in _ = try open(network.near) }
    }

    /// Runs something as another user: abstract names are everybody's. Of this thread alone, whereas
    /// libc's setresuid(2) is for all threads.
    private func asNobody<R>(_ body: () throws -> R) throws -> R {
        #if arch(x86_64)
            let setresuid = 117
        #else
            let setresuid = 147
        #endif
        // Variadic, so that the importer leaves it out.
        typealias Call = @convention(c) (Int, Int, Int, Int) -> Int
        let call = unsafeBitCast(try #require(dlsym(nil, "syscall")), to: Call.self)
        try #require(call(setresuid, -1, 65534, -1) == 0)
        defer { _ = call(setresuid, -1, 0, -1) }
        return try body()
    }

    private func squat(_ name: String, listening: Bool) throws -> Descriptor {
        try asNobody {
            let number = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
            try #require(UnixAddress(abstract: name).with { bind(number, $0, $1) } == 0)
            if listening { try #require(listen(number, 0) == 0) }
            return Descriptor(number)
        }
    }

    @Test("a local user's name keeps no shuck from starting, and hides none", arguments: [true, false])
    func aLocalUser(listening: Bool) throws {
        try Network.with { network in
            let name = "shuck/interface/\(network.near)/0"
            let squatter = try squat(name, listening: listening)
            // Full, so that it does not even tell whose it is.
            let waiting = try (0..<(listening ? 3 : 0)).map { _ in
                let number = socket(
                    AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_NONBLOCK.rawValue), 0)
                try #require(number >= 0)
                _ = UnixAddress(abstract: name).with { connect(number, $0, $1) }
                return Descriptor(number)
            }
            let lie = try squat(
                "shuck/interface/\(network.near)/held by process 1, unit lie", listening: true)
            let first = try open(network.near)
            #expect {
                _ = try open(network.near)
            } throws: { "\($0)".contains("unit a.service") && !"\($0)".contains("lie") }
            withExtendedLifetime((squatter, waiting, lie, first)) {}
        }
    }

    @Test("one of another user who takes frames is a shuck")
    func anotherUsersShuck() throws {
        try Network.with { network in
            // As a daemon with capabilities and a user of its own has them.
            let name = try squat("shuck/interface/\(network.near)/0", listening: true)
            let held = Descriptor(socket(AF_PACKET, Int32(SOCK_RAW.rawValue), 0))
            try #require(held.number >= 0 && fchown(held.number, 65534, gid_t.max) == 0)
            _ = try open(network.near)
            var address = sockaddr_ll()
            address.sll_family = UInt16(AF_PACKET)
            address.sll_protocol = UInt16(ETH_P_ALL).bigEndian
            address.sll_ifindex = network.near
            let bound = withUnsafePointer(to: &address) {
                $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                    bind(held.number, $0, socklen_t(MemoryLayout<sockaddr_ll>.size))
                }
            }
            try #require(bound == 0)
            #expect(throws: SystemError.self) { _ = try open(network.near) }
            withExtendedLifetime(name) {}
        }
    }

    @Test("units and containers are named as people know them")
    func names() {
        let digits = String(repeating: "0123456789abcdef", count: 4)
        #expect(Host.unit(cgroups: "0::/system.slice/shuck.service\n") == "unit shuck.service")
        #expect(
            Host.unit(cgroups: "0::/kubepods.slice/cri-containerd-\(digits).scope")
                == "cgroup cri-containerd-0123456789ab.scope")
        #expect(Host.unit(cgroups: "4:memory:/\n1:name=systemd:/docker/\(digits)") == "cgroup 0123456789ab")
        #expect(Host.unit(cgroups: "0::/\n") == nil)
        #expect(Host.unit(cgroups: "0::/../..\n") == nil)
        let pod = "3f2a1b9c-0000-4000-8000-123456789abc"
        #expect(
            Host.container(mounts: "1 0 8:1 /var/lib/kubelet/pods/\(pod)/etc-hosts /etc/hosts rw - ext4")
                == "pod \(pod)")
        #expect(
            Host.container(mounts: "1 0 8:1 /docker/containers/\(digits)/hostname /etc/hostname rw")
                == "container 0123456789ab")
        #expect(Host.container(mounts: "1 0 8:1 / / rw - ext4") == nil)
        #expect(Host.identity().hasPrefix("process \(getpid()), "))
        #expect(Host.identity().utf8.count <= 80)
    }

    // MARK: a device of another program

    @Test("a TUN device that is there is never joined")
    func noJoining() throws {
        guard access("/dev/net/tun", R_OK | W_OK) == 0 else { return print("skipped: no /dev/net/tun") }
        try Network.with { _ in
            try Network.run("ip tuntap add shuck9 mode tun multi_queue vnet_hdr")
            #expect {
                _ = try TunDevice(name: "shuck9", queues: 1)
            } throws: {
                ($0 as? SystemError)?.errno == EBUSY && "\($0)".contains("shuck9 is already there")
            }
            try Network.run("ip link delete shuck9")
            let tun = try TunDevice(name: "shuck9", queues: 2)
            #expect(throws: SystemError.self) { _ = try TunDevice(name: "shuck9", queues: 2) }
            withExtendedLifetime(tun) {}
        }
    }

    // MARK: interfaces that are the same

    private func configuration(_ interfaces: String, tunnels: String = "") -> Configuration? {
        Configuration.load(files: [
            (
                "c.yaml",
                """
                interfaces: [\(interfaces)]
                tunnels:
                  - {name: a, \(tunnels)local: [192.0.2.2], remotes: [192.0.2.1],
                     destinations: [{prefix: 203.0.113.4}]}
                """
            )
        ]).configuration
    }

    private func texts(_ interfaces: String, _ links: [Link], tunnels: String = "") throws -> [String] {
        try #require(configuration(interfaces, tunnels: tunnels)).doubleInterfaces(links).map(\.text)
    }

    @Test("what stands on a link and gets its frames as they are is the same interface")
    func stacked() throws {
        func link(
            _ index: Int32, _ name: String, _ kind: String = "", master: Int32 = 0, lower: Int32 = 0,
            vlan: UInt16? = nil
        ) -> Link {
            var link = Link(index: index, name: name, mtu: 1500, isUp: true, hardwareType: 1)
            (link.kind, link.master, link.lower, link.vlanID) = (kind, master, lower, vlan)
            return link
        }
        let text = { (lower: String, upper: String) in
            "\(lower) and \(upper) see the same frames, since \(lower) is below \(upper): each packet would "
                + "arrive twice; leave one of them out of interfaces"
        }
        for kind in ["bond", "bridge", "team", "failover", ""] {
            let links = [link(1, "p", master: 2), link(2, "m", kind)]
            #expect(try texts("p, m", links) == [text("p", "m")])
            #expect(try texts("m, p", links) == [text("p", "m")])
            #expect(try texts("m", links) == [])
        }
        for kind in ["macvlan", "macvtap", "ipvlan", "ipvtap"] {
            let links = [link(1, "p"), link(2, "m", kind, lower: 1)]
            #expect(try texts("p, m", links) == [text("p", "m")])
        }
        #expect(try texts("p, m", [link(1, "p", master: 2), link(2, "m", "vrf")]) == [])
        for kind in ["vxlan", "veth", "macsec", "dsa"] {
            #expect(try texts("p, m", [link(1, "p"), link(2, "m", kind, lower: 1)]) == [])
        }
        // A port of a bond in a bridge, through VLAN 0, and not through VLAN 5.
        for (vlan, expected) in [(UInt16(0), [text("p", "br")]), (5, [])] {
            let links = [
                link(1, "p", master: 2), link(2, "b", "bond"),
                link(3, "v", "vlan", master: 4, lower: 2, vlan: vlan), link(4, "br", "bridge"),
            ]
            #expect(try texts("p, br", links) == expected)
        }
        // Frames that no tunnel takes on one of them are judged once.
        let links = [link(1, "p", master: 2), link(2, "m", "bond")]
        #expect(try texts("p, m", links, tunnels: "interfaces: [m], ") == [])
        // Two ports get different frames; links in a circle end.
        let ports = [link(1, "p", master: 3), link(2, "q", master: 3), link(3, "b", "bond", lower: 3)]
        #expect(try texts("p, q", ports) == [])
    }

    /// An attribute of rtnetlink: length, type, value, padding.
    private func attribute(_ type: Int, _ value: [UInt8]) -> [UInt8] {
        let length = UInt16(4 + value.count)
        return bytes(length) + bytes(UInt16(type)) + value
            + [UInt8](repeating: 0, count: (4 - value.count % 4) % 4)
    }

    private func bytes(_ value: some FixedWidthInteger) -> [UInt8] {
        withUnsafeBytes(of: value) { Array($0) }
    }

    @Test("a VLAN's ID and parent are read, unless the parent stands in another namespace")
    func vlanMessage() throws {
        for (kind, isElsewhere, lower, vlan) in [
            ("vlan", false, Int32(3), UInt16(5)), ("vlan", true, 0, 5), ("bridge", false, 3, nil),
        ] {
            let data = attribute(Int(IFLA_VLAN_ID), bytes(UInt16(5)))
            let information =
                attribute(Int(IFLA_INFO_KIND), Array(kind.utf8) + [0])
                + attribute(Int(IFLA_INFO_DATA), data)
            let attributes =
                attribute(Int(IFLA_IFNAME), Array("v5".utf8) + [0])
                + attribute(Int(IFLA_LINK), bytes(Int32(3)))
                + (isElsewhere ? attribute(Int(IFLA_LINK_NETNSID), bytes(Int32(0))) : [])
                + attribute(Int(IFLA_LINKINFO), information)
            let header = [UInt8](repeating: 0, count: 32)
            let link = (header + attributes).withUnsafeBytes { NetlinkParser.link($0) }
            #expect(link?.name == "v5" && link?.kind == kind)
            #expect(link?.lower == lower && link?.vlanID == vlan)
        }
    }

    @Test("rtnetlink tells all of it: bridges, macvlans, VLANs and other names")
    func fromTheKernel() throws {
        try Network.with { network in
            func made(_ command: String) -> Bool {
                do {
                    try Network.run(command)
                    return true
                } catch {
                    print("skipped, the kernel does not: \(command)")
                    return false
                }
            }
            func first(_ interfaces: String) throws -> String {
                try texts(interfaces, try NetlinkSocket().links()).first ?? ""
            }
            if made("ip link add v5 link near type vlan id 5") {
                let link = try NetlinkSocket().links().first { $0.name == "v5" }
                #expect(link?.kind == "vlan" && link?.vlanID == 5 && link?.lower == network.near)
                #expect(try first("near, v5") == "")
            }
            if made("ip link add v0 link near type vlan id 0") {
                #expect(try first("near, v0").contains("near is below v0"))
            }
            if made("ip link add mv link near type macvlan mode bridge") {
                #expect(try first("mv, near").contains("near is below mv"))
            }
            if made("ip link property add dev far altname altfar") {
                #expect(
                    try first("altfar")
                        == "altfar is another name of far: write far")
            }
            if made("ip link add br0 type bridge && ip link set far master br0") {
                #expect(try first("br0, far").contains("far is below br0"))
            }
            // A veth's peer is no link below it.
            #expect(try first("near, far") == "")
        }
    }
}
