// Looks at this host for a plan: what is read is compared with a configuration elsewhere.

import Forwarding
import HostPlan
import LinuxIO
import Routing
import Settings

extension HostFacts {
    /// All that concerns a configuration.
    /// - Parameter cpus: of the workers.
    static func read(
        for configuration: Configuration, cpus: [Int], links: [Link]
    ) -> HostFacts {
        var facts = HostFacts(links: links, cpus: cpus)
        facts.settings = NamespaceFacts.read()
        for path in Set(configuration.devices.compactMap(\.netns)) {
            do throws(SystemError) {
                facts.namespaces[path] = .present(try NetworkNamespace(path).identity)
            } catch {
                facts.namespaces[path] = .absent("\(error)")
            }
        }
        return facts
    }

    /// What slows the workers, and what this process may do.
    mutating func addPermissions() {
        var permissions = Permissions(workers: cpus.count)
        permissions.missingCapabilities = Host.missingCapabilities()
        permissions.descriptorLimit = Host.descriptorLimit()
        self.permissions = permissions
    }
}

extension Configuration {
    /// What an operator should know before this runs on a host.
    /// - Returns: what refuses nothing.
    /// - Throws: all that does.
    func checked(on facts: HostFacts) throws -> [Finding] {
        let all = findings(facts)
        let refusals = all.filter { $0.severity == .refusal }
        guard refusals.isEmpty else { throw HostProblem(refusals.map(\.description)) }
        return all.filter { $0.severity == .advice }
    }

    /// Refuses `consume: socket` where raw sockets could not claim all that it asks for.
    /// - Parameter world: the next one.
    func refuseClaimGaps(_ world: ForwardingTables) throws {
        guard consume == .socket, mode == .active else { return }
        let gaps = world.claimGaps(socketInterfaces: Array(interfaces.indices))
        guard gaps.isEmpty else { throw HostProblem(gaps.map(\.description)) }
    }

    /// What a reload from another configuration would do to this host, in order; nothing of it is done.
    public func actions(replacing old: Configuration) throws -> [Action] {
        let links = try NetlinkSocket().links()
        let cpus = try old.workerCPUs()
        let before = HostPlan(old, HostFacts.read(for: old, cpus: cpus, links: links))
        let present = Dictionary(
            before.resources.map { ($0.key, $0) }, uniquingKeysWith: { first, _ in first })
        return HostPlan(self, HostFacts.read(for: self, cpus: cpus, links: links), present: present).actions
    }

    /// What an operator should know of this host before this runs on it, whoever runs it.
    public func advice() -> [Finding] {
        let links = (try? NetlinkSocket().links()) ?? []
        var facts = HostFacts.read(for: self, cpus: (try? workerCPUs()) ?? [], links: links)
        facts.addPlacement(of: self)
        return findings(facts).filter { $0.severity == .advice }
    }
}

extension HostFacts {
    /// What slows the workers where they stand.
    mutating func addPlacement(of configuration: Configuration) {
        placement = .read(interfaces: configuration.interfaces, workers: cpus)
    }
}

extension PlacementFacts {
    /// Looks at the host as it is now: others move interrupts at any time.
    /// - Parameter links: of this network namespace, where they are known: the kernel is not asked then.
    static func read(
        interfaces: [String], workers cpus: [Int], links: [String: Link] = [:]
    ) -> PlacementFacts {
        var facts = PlacementFacts()
        facts.interfaces = interfaces.map { InterfaceHardware.read($0, index: links[$0]?.index) }
        facts.nodes = Placement.nodes
        for cpu in cpus {
            facts.governors[cpu] = Host.read("/sys/devices/system/cpu/cpu\(cpu)/cpufreq/scaling_governor")
        }
        return facts
    }
}
