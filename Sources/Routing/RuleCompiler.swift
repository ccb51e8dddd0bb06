// Policy rules into steps: selectors that never or always hold are settled here, and neighbours that
// every packet takes become one lookup.

import IP

struct RuleCompiler {
    let isIPv4: Bool
    let vrfs: [UInt32]
    /// This family's, in the order of the walk.
    let rules: [RuleEntry]
    let dissects: Bool

    init(isIPv4: Bool, rules: [RuleEntry], vrfs: [UInt32]) {
        self.isIPv4 = isIPv4
        self.vrfs = vrfs
        self.rules = rules.walked(isIPv4: isIPv4)
        dissects = self.rules.dissects
    }

    /// A step before the layers are known.
    private enum Draft {
        case lookup(RuleStep, [TableID])
        case jump(RuleStep, priority: UInt32)
        case other(RuleStep)
    }

    func program(_ stores: [TableID: RouteStore]) -> RuleProgram {
        let targets = Set(
            rules.compactMap { rule -> UInt32? in
                if case .goto(let priority) = rule.action { priority } else { nil }
            })
        var drafts: [Draft] = []
        /// Where the first rule of each priority begins, also of those that come to no step.
        var starts: [UInt32: Int] = [:]
        /// A jump leads behind the last step: what follows is a lookup of its own.
        var target = 0
        for rule in rules {
            if starts[rule.priority] == nil {
                starts[rule.priority] = drafts.count
                if targets.contains(rule.priority) { target = drafts.count }
            }
            for draft in draft(rule) {
                if target < drafts.count, case .lookup(let step, let tables) = draft, step.isUnconditional,
                    case .lookup(let last, let before)? = drafts.last, last.isUnconditional
                {
                    drafts[drafts.count - 1] = .lookup(last, before + tables)
                } else {
                    drafts.append(draft)
                }
            }
        }
        return assemble(drafts, starts, stores)
    }

    private func assemble(
        _ drafts: [Draft], _ starts: [UInt32: Int], _ stores: [TableID: RouteStore]
    ) -> RuleProgram {
        var program = RuleProgram()
        for (index, draft) in drafts.enumerated() {
            switch draft {
            case .other(let step): program.steps.append(step)
            case .jump(var step, let priority):
                // A target that is not there: the rule is passed over.
                let target = starts[priority].flatMap { $0 > index ? $0 : nil }
                step.target = UInt32(target ?? index + 1)
                program.steps.append(step)
            case .lookup(var step, let tables):
                step.target = UInt32(program.places.count)
                program.steps.append(step)
                append(tables, stores, to: &program)
            }
        }
        program.needsAddressesOnly =
            program.layers.count * 8 == program.places.count
            && program.steps.allSatisfy(\.needsAddressesOnly)
        if case .lookup(let step, _)? = drafts.first, step.isUnconditional, drafts.count == 1 {
            program.isOneLookup = program.layers.count == 1
        }
        return program
    }

    /// One layer, and one more for each TOS that a route asks for.
    private func append(
        _ tables: [TableID], _ stores: [TableID: RouteStore], to program: inout RuleProgram
    ) {
        let values = tables.reduce(into: Set<UInt8>()) {
            $0.formUnion(stores[$1]?.tosValues ?? [])
        }
        var places = [Int](repeating: program.layers.count, count: 8)
        for tos in [0] + values.sorted() {
            places[Int(tos >> 2 & 7)] = program.layers.count
            program.layers.append(
                RouteLayer(tables: tables, tos: tos, trie: RouteTrie(isIPv4: isIPv4)))
        }
        program.places += places
    }

    // MARK: one rule

    private func draft(_ rule: RuleEntry) -> [Draft] {
        var step = RuleStep()
        select(rule, &step)
        if step.isImpossible {
            // What never holds is never taken; its opposite always.
            guard rule.isInverted else { return [] }
            step = RuleStep()
        }
        guard rule.isL3mdev else { return [draft(rule, step, vrf: 0)].compactMap { $0 } }
        var drafts = vrfs.compactMap { draft(rule, step, vrf: $0) }
        // What is in no VRF does not meet the selector, so it meets the opposite.
        if rule.isInverted, let outside = draft(rule, RuleStep(), vrf: RuleStep.outside) {
            drafts.append(outside)
        }
        return drafts
    }

    /// - Parameter vrf: whose packets it is for.
    private func draft(_ rule: RuleEntry, _ selecting: RuleStep, vrf: UInt32) -> Draft? {
        var step = selecting
        step.vrf = vrf
        step.suppressLength = rule.suppressPrefixLength
        step.suppressGroup = rule.suppressGroup.map(Int64.init) ?? -1
        switch rule.action {
        case .nop: return nil
        case .goto(let priority):
            step.action = .jump
            return .jump(step, priority: priority)
        case .refuse(let kind):
            step.action = .answer
            step.target = UInt32(RouteAnswers.refusals.firstIndex(of: kind) ?? 1)
            return .other(step)
        case .lookup(let table):
            step.action = .lookup
            let number = rule.isL3mdev ? (vrf == RuleStep.outside ? 0 : vrf) : table
            return .lookup(step, [TableID(isIPv4: isIPv4, asked: number)])
        }
    }

    private func select(_ rule: RuleEntry, _ step: inout RuleStep) {
        step.isInverted = rule.isInverted
        if let to = rule.to, to.length > 0 {
            step.source = to.address
            step.sourceMask = to.mask
        }
        if let from = rule.from, from.length > 0 {
            step.destination = from.address
            step.destinationMask = from.mask
        }
        if let dscp = rule.dscp {
            step.tosMask = rule.dscpMask << 2
            step.tos = dscp << 2 & step.tosMask
        } else if rule.tos != 0 {
            step.tosMask = isIPv4 ? 0x1c : 0xfc
            step.tos = rule.tos
        }
        step.protocolNumber = rule.protocolNumber
        // Roles are swapped: the question's source port is the packet's destination port.
        if let ports = rule.sourcePorts {
            (step.firstDestinationPort, step.lastDestinationPort) = (
                ports.lowerBound, ports.upperBound
            )
        }
        if let ports = rule.destinationPorts {
            (step.firstSourcePort, step.lastSourcePort) = (ports.lowerBound, ports.upperBound)
        }
        // The mark is 0, as no packet has one before it is injected; the user is root; the
        // question comes in by `lo`, and leaves by no interface yet.
        step.isImpossible =
            (rule.inputInterface.map { $0 != "lo" } ?? false)
            || rule.outputInterface != nil || rule.mark & rule.markMask != 0
            || rule.tunnelID != 0 || !(rule.users?.contains(0) ?? true)
            || (rule.asksForPorts && isIPv4 && !dissects)
            || (!isIPv4 && (rule.sourcePorts != nil || rule.destinationPorts != nil))
    }
}

extension RuleStep {
    fileprivate var needsAddressesOnly: Bool {
        tosMask == 0 && protocolNumber == 0 && firstSourcePort == 0 && lastSourcePort == .max
            && firstDestinationPort == 0 && lastDestinationPort == .max
    }

    /// Every packet takes it, and takes what it finds.
    fileprivate var isUnconditional: Bool {
        let plain = RuleStep()
        return !isInverted && !isImpossible && sourceMask == plain.sourceMask
            && destinationMask == plain.destinationMask && needsAddressesOnly && vrf == 0
            && suppressLength < 0 && suppressGroup < 0
    }
}
