// What a configuration needs of this host, as values: no system call decides here, and nothing here acts.

import Forwarding
import IP
import Routing
import Settings

/// The wanted resources, in the order in which they are opened.
public struct HostPlan: Sendable {
    public private(set) var resources: [Resource] = []
    /// Parts that wait for something that comes with a notice, and for what.
    public private(set) var awaited: [Part: String] = [:]
    /// Interfaces whose frames raw sockets claim: indices into the policy's.
    public private(set) var socketInterfaces: [Int] = []

    private let configuration: Configuration
    private let facts: HostFacts
    private let present: [Resource.Key: Resource]
    private let waiting: Set<Part>

    /// - Parameters:
    ///   - present: what is there; of what may differ without harm it is kept.
    ///   - waiting: parts that failed and are left alone: what is there of them stays.
    ///   - before: the configuration that workers still run on, whose probes go on coming in.
    public init(
        _ configuration: Configuration, _ facts: HostFacts, present: [Resource.Key: Resource] = [:],
        waiting: Set<Part> = [], beside before: Configuration? = nil
    ) {
        self.configuration = configuration
        self.facts = facts
        self.present = present
        self.waiting = waiting
        // A shadow injects nothing: it may stand beside another shuck.
        let isActive = configuration.mode == .active
        let interfaces = configuration.interfaces.compactMap(facts.link)
        for link in interfaces { addInterface(link, isHeld: isActive) }
        for device in configuration.devices { addDevice(device) }
        if configuration.devices.contains(where: { $0.netns != nil }), !waiting.contains(.errors) {
            resources.append(.errors(configuration.icmp))
        }
        if isActive { addAnswers() }
        for link in interfaces where has(.rings(link.name)) {
            let natives = configuration.natives(interface: link.name)
                .union(before?.natives(interface: link.name) ?? [])
            add(.filter(interface: link.name, index: link.index, natives: natives))
        }
        if isActive { addClaims() }
        if isActive, configuration.mss.replies == .nft { addReplyTable() }
    }

    /// The steps that lead from what is there to what is wanted, in the order in which they are taken.
    public var actions: [Action] {
        var wanted: Set<Resource.Key> = []
        var actions: [Action] = []
        var replaced: [Action] = []
        for resource in resources {
            wanted.insert(resource.key)
            guard let old = present[resource.key] else {
                actions.append(.open(resource))
                continue
            }
            if old == resource { continue }
            if resource.isChange(of: old) {
                actions.append(.change(from: old, to: resource))
            } else {
                actions.append(.open(resource))
                replaced.append(.remove(old))
            }
        }
        let gone = present.filter { !wanted.contains($0.key) }.map { Action.remove($0.value) }
        let ordered = Action.Phase.allCases.flatMap { phase in actions.filter { $0.phase == phase } }
        return ordered + (replaced + gone).sorted { $0.text < $1.text }
    }

    // MARK: what is wanted

    private func has(_ key: Resource.Key) -> Bool { resources.contains { $0.key == key } }

    private mutating func add(_ resource: Resource) {
        if !waiting.contains(resource.part) {
            resources.append(resource)
        } else if let old = present[resource.key], old.standsIn(for: resource) {
            resources.append(old)
        }
    }

    private mutating func addInterface(_ link: Link, isHeld: Bool) {
        if isHeld { add(.hold(interface: link.name, index: link.index)) }
        // Rings that are there stay, whatever size they would be given today: a change loses frames.
        if case .rings(let old) = present[.rings(link.name)], old.index == link.index, old.cpus == facts.cpus
        {
            resources.append(.rings(old))
            return
        }
        let slotBytes = Limits.slotBytes(mtu: link.mtu)
        let bytes = Limits.ringBytes(rings: facts.cpus.count * configuration.interfaces.count)
        add(
            .rings(
                Resource.Rings(
                    interface: link.name, index: link.index, hardwareType: link.hardwareType,
                    cpus: facts.cpus, slotBytes: slotBytes, slotCount: bytes / slotBytes)))
    }

    private mutating func addDevice(_ device: Configuration.Device) {
        var namespace: Resource.Device.Namespace?
        if let path = device.netns {
            switch facts.namespaces[path] ?? .absent("it was not looked for") {
            case .present(let identity):
                namespace = Resource.Device.Namespace(path: path, identity: identity)
            case .absent(let reason):
                // If only the path is gone, processes may still live in the namespace.
                guard case .device(let old) = present[.device(device.name)], old.namespace?.path == path
                else {
                    awaited[.device(device.name)] = reason
                    return
                }
                namespace = old.namespace
            }
        }
        let wanted = Resource.Device(
            name: device.name, queues: facts.cpus.count, namespace: namespace)
        let hadDevice = resources.count
        add(.device(wanted))
        guard resources.count > hadDevice else { return }
        add(.settings(wanted, mtu: device.mtu, address: device.address))
    }

    /// The way back of what probes are answered with. The routes lead to the first device in the host's
    /// own namespace, whichever device the probes go through.
    private mutating func addAnswers() {
        guard !configuration.inner.rewriteSources.isEmpty, facts.settings.forwardsIPv6 != nil,
            let name = configuration.devices.first(where: { $0.netns == nil })?.name,
            case .device(let device)? = resources.first(where: { $0.key == .device(name) })
        else { return }
        // Before the first answer can come.
        add(.reading(device))
        for rule in configuration.inner.rewriteSources {
            if let link = facts.link(rule.interface), !has(.returnSocket(rule.interface)) {
                add(.returnSocket(interface: rule.interface, index: link.index))
            }
            if !has(.returnRoute(rule.to)) { add(.returnRoute(rule.to, device)) }
        }
    }

    private mutating func addClaims() {
        guard configuration.consume != .off else { return }
        let policy = configuration.policy
        for (number, interface) in policy.interfaces.enumerated() {
            if configuration.consume == .socket || waiting.contains(.claim(interface.name)) {
                socketInterfaces.append(number)
            } else if let link = facts.link(interface.name), has(.rings(interface.name)) {
                add(
                    .claim(
                        Resource.Claim(
                            interface: interface.name, index: link.index,
                            claims: policy.claims(interface: number),
                            isRequired: configuration.consume == .bpf)))
            }
        }
        let addresses = policy.tunnels.filter { $0.interfaces.contains(where: socketInterfaces.contains) }
            .flatMap(\.local).filter(\.isHost).map(\.address.bytes)
        guard !addresses.isEmpty || waiting.contains(.claims) else { return }
        add(.socketClaim(Set(addresses).sorted { $0.lexicographicallyPrecedes($1) }))
    }

    private mutating func addReplyTable() {
        let links = facts.links.byName
        add(.replyTable(chains: SynAckClamp.chains(configuration) { links[$0]?.mtu }))
    }
}

extension Configuration {
    /// Sources of native frames that may be probes.
    func natives(interface: String) -> Set<Address> {
        Set(inner.rewriteSources.filter { $0.interface == interface }.map(\.from.address))
    }

    /// Directories that hold the paths of devices' namespaces.
    public var namespaceDirectories: Set<String> {
        Set(
            devices.compactMap { device in
                device.netns.map { path in
                    let parent = path.split(separator: "/").dropLast().joined(separator: "/")
                    return "/" + parent
                }
            })
    }
}
