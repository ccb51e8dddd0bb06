// What this process holds of the host: each resource of a plan, opened, changed and removed. Privileged;
// runs on the control thread only. Workers are handed what it holds.

import Forwarding
import Glibc
import HostPlan
import IP
import LinuxIO
import Logging
import Routing
import Settings
import Synchronization

/// The resources of one configuration. Copies share them; what no copy holds is closed. While an old and
/// a new one both live, both their claims hold.
struct Plumbing {
    struct Held: @unchecked Sendable {
        // @unchecked: the handles are the control thread's.
        let resource: Resource
        let handle: AnyObject
    }

    var held: [Resource.Key: Held] = [:]
    /// For nft tables; nil where the kernel has none.
    var filters: FilterContext?
    /// What could not be opened.
    private(set) var absences: [Part: Absence] = [:]
    /// Interfaces whose frames raw sockets claim: indices into the policy's.
    private(set) var socketInterfaces: [Int] = []
    /// For the answers to rewritten probes.
    private(set) var probeReturn: ProbeReturn?
    /// What could not be removed: tried again at each tick.
    var surplus: [Held] = []
    /// nil: no limit.
    private(set) var limits: InjectionLimits?

    init() {}

    /// What others have opened, or not.
    init(
        _ absences: [Part: Absence], _ socketInterfaces: [Int], _ configuration: Configuration,
        _ limits: InjectionLimits?
    ) {
        (self.absences, self.socketInterfaces) = (absences, socketInterfaces)
        self.limits = .of(configuration.limits, keeping: limits)
    }

    /// What a plan compares with what is wanted.
    var present: [Resource.Key: Resource] { held.mapValues(\.resource) }

    private func handle<T>(_ key: Resource.Key) -> T? {
        // In one expression, Swift 6.3 with -O casts nil here, and crashes.
        guard let one = held[key] else { return nil }
        return one.handle as? T
    }

    func interface(_ name: String) -> OpenInterface? { handle(.rings(name)) }
    func device(_ name: String) -> TunDevice? { handle(.device(name)) }
    func claim(_ interface: String) -> Claim? { handle(.claim(interface)) }
    var interfaces: [OpenInterface] {
        held.values.compactMap { if case .rings = $0.resource { $0.handle as? OpenInterface } else { nil } }
    }
    var socketClaim: Claim? { handle(.socketClaim) }
    var icmpErrors: ICMPErrors? { handle(.errors) }
    var replyTable: FilterTable? { handle(.replyTable) }

    /// A queue of each device in a pod's namespace: it reports an error when the device goes.
    var queuesElsewhere: [Int32] {
        held.values.compactMap { one in
            guard case .device(let device) = one.resource, device.namespace != nil else { return nil }
            return (one.handle as? TunDevice)?.queues[0].number
        }
    }

    /// Removes claims that do not end with their descriptors.
    mutating func removeOwnerless() {
        let gone = held.filter { _, one in (one.handle as? Claim)?.means == .clsact }
        held = held.filter { gone[$0.key] == nil }
        surplus = Self.removed(surplus + gone.map(\.value))
    }

    /// Lets go of rings and of what stands on them: a plan opens others.
    mutating func forgetRings() {
        held = held.filter { _, one in
            switch one.resource {
            case .rings, .filter: false
            default: true
            }
        }
    }

    func stopReceiving() throws(SystemError) {
        for interface in interfaces {
            for ring in interface.rings { try ring.stopReceiving() }
        }
    }

    /// Routes go when their device is set down, and do not come back with it.
    func restoreRoutes() {
        for one in held.values { (one.handle as? HostRoute)?.restore() }
    }
}

// MARK: - Steps

extension Plumbing {
    private func take(_ action: Action) throws(SystemError) -> Held? {
        switch action {
        case .open(let resource): return Held(resource: resource, handle: try open(resource))
        case .change(let old, let new):
            guard let handle = held[new.key]?.handle else { return nil }
            try change(handle, from: old, to: new)
            return Held(resource: new, handle: handle)
        case .remove: return nil
        }
    }

    private func open(_ resource: Resource) throws(SystemError) -> AnyObject {
        switch resource {
        case .hold(let interface, let index):
            return try InterfaceGuard(interface: interface, index: index, holder: Host.identity())
        case .rings(let rings): return try OpenInterface(rings)
        case .device(let device):
            return try TunDevice(
                name: device.name, queues: device.queues, namespace: try Self.enter(device))
        case .settings(let device, let mtu, let address):
            let tun: TunDevice = try self.required(.device(device.name))
            try tun.configure(mtu: mtu, address: address, in: try Self.enter(device))
            return tun
        case .errors(let settings): return try ICMPErrors(settings)
        case .reading(let device):
            let tun: TunDevice = try required(.device(device.name))
            tun.setReading(true)
            return tun
        case .returnSocket(let interface, let index):
            return try RawIPv6Socket(interface: interface, index: index)
        case .returnRoute(let address, let device):
            let tun: TunDevice = try required(.device(device.name))
            return try HostRoute(to: address.bytes, text: address.text, device: tun.index)
        case .filter(let interface, _, let natives):
            let rings: OpenInterface = try required(.rings(interface))
            try rings.receive(natives)
            return rings
        case .claim(let claim):
            return try Claim.byProgram(
                claim.claims.program, interface: claim.interface, index: claim.index,
                allowClsact: claim.isRequired)
        case .socketClaim(let addresses): return try Claim.bySockets(addresses)
        case .replyTable(let chains):
            // Not named after a device: during a hand-over two processes have the same one.
            let context = if let filters { filters } else { try FilterContext() }
            return try FilterTable(context, name: "shuck-\(getpid())", chains: chains)
        }
    }

    private func required<T>(_ key: Resource.Key) throws(SystemError) -> T {
        guard let found: T = handle(key) else {
            throw SystemError("open", "\(key)", errno: ENODEV, hint: "what it stands on is gone")
        }
        return found
    }

    /// The namespace of a device, held until the device is in it and set up, no longer.
    private static func enter(_ device: Resource.Device) throws(SystemError) -> NetworkNamespace? {
        guard let wanted = device.namespace else { return nil }
        let namespace = try NetworkNamespace(wanted.path)
        guard namespace.identity == wanted.identity else {
            throw SystemError("open", wanted.path, errno: ESTALE, hint: "another one was put there just now")
        }
        return namespace
    }

    /// On failure all is as it was, as far as the host lets it: a step can fail half-way, or be done although
    /// the kernel's answer could not be read.
    private func change(
        _ handle: AnyObject, from old: Resource, to new: Resource
    ) throws(SystemError) {
        do throws(SystemError) {
            try set(handle, to: new, instead: old)
        } catch {
            try? set(handle, to: old, instead: new)
            throw error
        }
    }

    private func set(
        _ handle: AnyObject, to new: Resource, instead old: Resource
    ) throws(SystemError) {
        switch (old, new, handle) {
        case (.settings(_, _, let before), .settings(let device, let mtu, let after), let tun as TunDevice):
            let namespace = try Self.enter(device)
            try tun.configure(mtu: mtu, address: after, in: namespace)
            if before != after { try tun.remove(address: before, in: namespace) }
        case (.filter, .filter(_, _, let natives), let rings as OpenInterface):
            try rings.receive(natives)
        case (.replyTable, .replyTable(let chains), let table as FilterTable):
            try table.replace(chains: chains)
        default: throw SystemError("change", new.text, errno: EINVAL)
        }
    }

    /// Takes from the host what the end of its descriptors does not take.
    private static func remove(_ one: Held) throws(SystemError) {
        switch (one.resource, one.handle) {
        case (.returnRoute, let route as HostRoute): try route.remove()
        case (.claim, let claim as Claim): try claim.remove()
        case (.reading, let tun as TunDevice): tun.setReading(false)
        case (.replyTable, let table as FilterTable): try table.remove()
        default: break
        }
    }

    /// Removes what an older one alone holds, and what is left from before.
    /// - Parameter others: those between the older one and this, on which workers still run.
    mutating func removeSurplus(of older: Plumbing = Plumbing(), beside others: [Plumbing] = []) {
        let gone = older.held.filter { key, one in
            held[key]?.handle !== one.handle && !others.contains { $0.held[key]?.handle === one.handle }
        }
        surplus = Self.removed(surplus + gone.map(\.value))
    }

    /// - Returns: what could not be removed, and is to be tried again.
    private static func removed(_ surplus: [Held]) -> [Held] {
        surplus.filter { one in
            do throws(SystemError) {
                try remove(one)
                return false
            } catch {
                Logger(label: "shuck").error("\(one.resource.text) could not be removed: \(error)")
                return true
            }
        }
    }

    /// Takes back what was done to the host, the last first. What was opened beside goes with its copy.
    /// - Returns: what could not be taken back: `note` it where it still holds.
    func undo(_ done: [Action]) -> Leftovers {
        var left = Leftovers()
        for action in done.reversed() {
            guard let one = held[action.resource.key] else { continue }
            switch action {
            case .open: left.surplus += Self.removed([one])
            case .change(let old, let new):
                do throws(SystemError) {
                    try change(one.handle, from: new, to: old)
                } catch {
                    Logger(label: "shuck").error("\(new.text) could not be taken back: \(error)")
                    left.changes.append((new, error))
                }
            case .remove: break
            }
        }
        return left
    }

    /// What undoing left: the next plan changes it, and a tick removes it.
    struct Leftovers {
        var changes: [(resource: Resource, error: SystemError)] = []
        var surplus: [Held] = []
    }

    mutating func note(_ left: Leftovers) {
        surplus += left.surplus
        for (resource, error) in left.changes {
            guard let old = held[resource.key] else { continue }
            held[resource.key] = Held(resource: resource, handle: old.handle)
            absences[resource.part] = Absence(
                "\(error)", index: 0, isPermission: error.isPermission, isFinal: false, after: nil,
                now: Host.monotonicNanoseconds())
        }
    }
}

// MARK: - Reaching a plan

/// A plan that was not reached. All that was done for it is taken back but what is left.
struct PlanFailure: Error, CustomStringConvertible {
    let cause: any Error
    let left: Plumbing.Leftovers

    var description: String { "\(cause)" }
}

extension Plumbing {
    /// Opens and changes what the configuration wants and this does not hold. A part that fails is taken
    /// back and is absent; the others go on.
    /// - Parameters:
    ///   - facts: of now, with the devices that this holds.
    ///   - phases: those of these alone.
    ///   - before: the configuration that workers still run on.
    /// - Returns: what was done, for `undo`.
    /// - Throws: what the occasion does not let pass; then all that was done is taken back, and this copy is
    ///   of no use any more.
    mutating func reach(
        _ configuration: Configuration, _ facts: HostFacts, _ occasion: Occasion,
        _ phases: Set<Action.Phase> = Set(Action.Phase.allCases), beside before: Configuration? = nil
    ) throws(PlanFailure) -> [Action] {
        dropDead(facts)
        limits = .of(configuration.limits, keeping: limits)
        let (known, now) = (absences, Host.monotonicNanoseconds())
        var waiting = occasion == .reload ? [:] : known.filter { $0.value.isLeftAlone($0.key, facts, now) }
        var done: [Action] = []
        while true {
            let plan = HostPlan(
                configuration, facts, present: present, waiting: Set(waiting.keys), beside: before)
            let (failed, taken) = (waiting.count, done.count)
            for group in Self.groups(plan.actions.filter { phases.contains($0.phase) }) {
                let part = group[0].resource.part
                do throws(SystemError) {
                    try takeTogether(group, &done)
                } catch {
                    if part.refuses(
                        occasion, isPermission: error.isPermission, isTaken: error.errno == EBUSY,
                        wasAbsent: known[part] != nil)
                    {
                        throw PlanFailure(cause: error, left: undo(done))
                    }
                    var isFinal = false
                    // A fallback for want of descriptors or memory is no choice for good.
                    if case .claim = part { isFinal = !error.mayPass }
                    waiting[part] = Absence(
                        "\(error)", index: facts.index(part), isPermission: error.isPermission,
                        isFinal: isFinal, after: known[part], now: now)
                }
            }
            // A step can make others needed: what stood on a thing that was opened again goes with it.
            if waiting.count == failed && done.count == taken {
                return settle(on: plan, waiting, configuration, done)
            }
        }
    }

    /// Steps of one part within a phase, which succeed or fail together.
    private static func groups(_ actions: [Action]) -> [[Action]] {
        var groups: [[Action]] = []
        for action in actions where action.phase != .retire {
            if let last = groups.last?[0], last.phase == action.phase,
                last.resource.part == action.resource.part
            {
                groups[groups.count - 1].append(action)
            } else {
                groups.append([action])
            }
        }
        return groups
    }

    private mutating func takeTogether(_ group: [Action], _ done: inout [Action]) throws(SystemError) {
        let before = self
        var mine: [Action] = []
        do throws(SystemError) {
            for action in group {
                // What it stands on failed before it: the next plan is without it.
                if let base = action.resource.requirement, held[base] == nil { continue }
                let one = try take(action)
                if case .open(let resource) = action {
                    held = held.filter { $0.value.resource.requirement != resource.key }
                }
                held[action.resource.key] = one
                mine.append(action)
            }
            done += mine
        } catch {
            let left = undo(mine)
            self = before
            note(left)
            throw error
        }
    }

    /// Lets go of what the plan is without, and notes what is absent.
    private mutating func settle(
        on plan: HostPlan, _ waiting: [Part: Absence], _ configuration: Configuration, _ done: [Action]
    ) -> [Action] {
        let wanted = Set(plan.resources.map(\.key))
        held = held.filter { wanted.contains($0.key) }
        socketInterfaces = plan.socketInterfaces
        absences = waiting.merging(plan.awaited.mapValues { Absence(awaiting: $0) }) { failed, _ in failed }
        findProbeReturn(configuration)
        return done
    }

    mutating func findProbeReturn(_ configuration: Configuration) {
        probeReturn = handle(.reading).map { device in
            ProbeReturn(configuration, device: device) { handle(.returnSocket($0)) }
        }
    }

    /// Once no worker runs on what was before: rings let in what the configuration asks for alone. What a
    /// wider filter lets in beside is passed by the judge.
    /// - Returns: false when a filter could not be changed.
    mutating func narrow(_ configuration: Configuration, links: [Link]) -> Bool {
        var isDone = true
        let cpus = interfaces.first?.specification.cpus ?? []
        let plan = HostPlan(configuration, HostFacts(links: links, cpus: cpus), present: present)
        for action in plan.actions {
            guard case .change(_, .filter) = action else { continue }
            do throws(SystemError) { held[action.resource.key] = try take(action) } catch { isDone = false }
        }
        return isDone
    }

    /// Forgets devices that others have deleted, what stands on them, and a table that cannot be changed.
    private mutating func dropDead(_ facts: HostFacts) {
        if replyTable?.isSpoiled ?? false { held[.replyTable] = nil }
        if filters?.isSpoiled ?? true { filters = try? FilterContext() }
        let dead = held.compactMap { key, one -> Resource.Key? in
            guard case .device(let device) = one.resource, let tun = one.handle as? TunDevice else {
                return nil
            }
            // One that was deleted answers EBADFD for ever.
            let isAlive =
                device.namespace == nil
                ? facts.link(device.name)?.index == tun.index : tun.isAlive
            return isAlive ? nil : key
        }
        guard !dead.isEmpty else { return }
        held = held.filter { key, one in
            !dead.contains(key) && !(one.resource.requirement.map(dead.contains) ?? false)
        }
    }

    /// Nothing that is there could be opened: the start ends with the reason.
    func refuseStartWithNothing() throws {
        func reason(_ isOfKind: (Part) -> Bool) -> String? {
            absences.first { isOfKind($0.key) && !$0.value.isAwaited }?.value.reason
        }
        let device = reason { if case .device = $0 { true } else { false } }
        let interface = reason { if case .interface = $0 { true } else { false } }
        let hasDevice = held.keys.contains { if case .device = $0 { true } else { false } }
        if let device, !hasDevice { throw HostProblem(description: device) }
        if let interface, interfaces.isEmpty { throw HostProblem(description: interface) }
    }

    // MARK: Following

    /// When the next absent part is to be tried; nil: none is.
    var nextAttemptNanoseconds: UInt64? {
        absences.values.lazy.filter { !$0.isAwaited }.map(\.notBeforeNanoseconds).min()
    }

    /// Whether something absent is to be tried again, or a device in a pod's namespace has gone.
    /// - Parameter looksAtNamespaces: whether to look for those that came or were made again, of which
    ///   nobody tells.
    func isDue(_ configuration: Configuration, looksAtNamespaces: Bool) -> Bool {
        if let next = nextAttemptNanoseconds, Host.monotonicNanoseconds() >= next { return true }
        if replyTable?.isSpoiled ?? filters?.isSpoiled ?? false { return true }
        return looksAtNamespaces
            && configuration.devices.contains { device in
                guard let path = device.netns else { return false }
                let found = NetworkNamespace.identity(at: path)
                guard let tun = self.device(device.name) else {
                    return absences[.device(device.name)]?.isAwaited ?? false && found != nil
                }
                return !tun.isAlive || found != nil && found != tun.namespace
            }
    }
}

extension Absence {
    /// Whether a part that failed is not to be tried yet.
    fileprivate func isLeftAlone(_ part: Part, _ facts: HostFacts, _ now: UInt64) -> Bool {
        !isAwaited && index == facts.index(part) && now < notBeforeNanoseconds
    }
}

extension HostFacts {
    /// ifindex that stands under the name of a part; 0: none.
    fileprivate func index(_ part: Part) -> Int32 {
        switch part {
        case .interface(let name), .device(let name), .claim(let name): link(name)?.index ?? 0
        default: 0
        }
    }
}
