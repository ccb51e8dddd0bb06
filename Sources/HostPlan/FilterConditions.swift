// Conditions of nftables, which also lists what iptables-nft made: `Condition.filters`.

import Settings

extension Condition {
    static let filters = [
        Condition(
            "filter-policy",
            """
            A chain at the hook `forward` whose policy is `drop` refuses injected packets that no rule \
            accepts. Docker makes the policy `drop`.
            """
        ) { examination in
            filter(examination, "no chain at the hook forward has the policy drop without a rule for it") {
                $0.policies
            }
        },
        Condition(
            "filter-reverse-path",
            """
            A rule with `fib saddr . iif oif`, as firewalld has it, is a further reverse-path filter. \
            It drops what comes in by shuck's device, because clients are not routed back through that \
            device.
            """
        ) { examination in
            filter(examination, "no rule checks the reverse path of injected packets") { $0.reversePaths }
        },
        Condition(
            "filter-invalid",
            """
            Connection tracking calls a packet `invalid` when it did not see the connection begin, or \
            sees one direction alone: after a change of the balancer's choice of node, or with \
            asymmetric routes.
            """
        ) { examination in
            filter(examination, "no rule drops injected packets in the state invalid") { $0.invalids }
        },
        Condition(
            "filter-icmp",
            """
            Path MTU discovery needs ICMP destination-unreachable and ICMPv6 packet-too-big, towards \
            the pods and from this node. A NetworkPolicy or a rule that drops ICMP breaks it without a \
            word.
            """
        ) { examination in
            filter(examination, "no rule drops the ICMP errors that path MTU discovery needs") { $0.errors }
        },
        Condition(
            "filter-mark",
            """
            What shuck injects has mark 0 and no connection-tracking entry of the outer packet. A rule \
            that copies the mark of a connection to its packets gives all of them the mark of the \
            first packet, and with it perhaps another route, or another source address by \
            masquerading.
            """
        ) { examination in
            filter(examination, "no rule copies marks of connections to injected packets") { $0.marks }
        },
        Condition(
            "filter-tunnel",
            """
            shuck sees frames before nftables does, so a rule against protocol 4 or 41 costs it \
            nothing. The kernel's own tunnels need these protocols: an overlay (`otherRemotes: pass`), \
            or decapsulation by the kernel after shuck has been removed.
            """
        ) { examination in
            filter(examination, "no rule keeps protocols 4 and 41 from the kernel's tunnels") { $0.tunnels }
        },
    ]

    private static func filter(
        _ examination: Examination, _ good: String, _ judge: (FilterQuestions) -> [Line]
    ) -> [Line] {
        guard let ruleset = examination.ruleset else { return [] }
        let lines = examination.hostDevices.flatMap { device in
            judge(
                FilterQuestions(
                    ruleset: ruleset, device: device.name, configuration: examination.configuration))
        }
        return lines.isEmpty ? [.ok(good)] : lines
    }
}

/// What is asked of a ruleset about one of shuck's devices.
private struct FilterQuestions {
    let ruleset: FilterRuleset
    let device: String
    let configuration: Configuration

    var policies: [Condition.Line] {
        ruleset.chains(at: ["forward"], from: device).compactMap { chain in
            let isNamed = chain.rules.contains { $0.leaves && $0.names(device) }
            guard chain.dropsByPolicy, !isNamed else { return nil }
            if !chain.rules.contains(where: \.mayAccept), meets(chain.family) {
                let insert = "nft insert rule \(chain.place)"
                return .problem(
                    "chain \(chain.place) drops everything: its policy is drop, and no rule of it accepts",
                    effect: "All injected packets of its family are lost, and the answers of pods.",
                    command: "\(insert) iifname \(device) accept && "
                        + "\(insert) ct state established,related accept")
            }
            return .warning(
                "chain \(chain.place) drops what no rule accepts, and no rule of it names \(device)",
                effect: "Injected packets that no other rule accepts are lost.",
                command: "nft insert rule \(chain.place) iifname \(device) accept")
        }
    }

    /// Whether packets of the device meet chains of a family of nftables.
    private func meets(_ family: String) -> Bool {
        guard let one = configuration.devices.first(where: { $0.name == device }) else { return false }
        return switch family {
        case "inet": true
        case "ip": configuration.carries(isIPv4: true, by: one)
        case "ip6": configuration.carries(isIPv4: false, by: one)
        default: false
        }
    }

    var reversePaths: [Condition.Line] {
        find(["prerouting", "forward"]) { rule in
            rule.refuses && rule.contains(["fib", "saddr"])
                && (rule.contains(["iif", "oif", "missing"]) || rule.contains(["iif", "oif", "0"]))
        } line: { fact, spare in
            .problem(
                fact, effect: "The packets of all clients that come in by \(device) are lost.",
                command: spare("return"))
        }
    }

    var invalids: [Condition.Line] {
        find(["prerouting", "forward", "postrouting"]) { rule in
            rule.refuses("ct state", ["invalid"])
        } line: { fact, spare in
            .warning(
                fact,
                effect: """
                    Connections break when the balancer moves them to this node, and where their \
                    answers leave another way.
                    """, command: spare("ct state invalid accept"))
        }
    }

    var marks: [Condition.Line] {
        find(["prerouting", "forward"]) { rule in
            rule.contains(["meta", "mark", "set", "ct", "mark"])
        } line: { fact, spare in
            .warning(
                fact,
                effect: """
                    Whether packets of a connection are masqueraded or routed elsewhere depends on its \
                    first packet: some connections fail, and others do not.
                    """, command: spare("return"))
        }
    }

    var tunnels: [Condition.Line] {
        let isNeeded =
            configuration.consume == .off || configuration.tunnels.contains { $0.otherRemotes == .pass }
        guard isNeeded else { return [] }
        // Outer packets do not come in by shuck's device.
        return find(["prerouting", "input", "output"], from: configuration.interfaces.first ?? "") { rule in
            let numbers: Set = ["4", "41"]
            return ["meta l4proto", "ip protocol", "ip6 nexthdr"].contains { rule.refuses($0, numbers) }
        } line: { fact, spare in
            .warning(
                fact, effect: "An overlay between nodes, or decapsulation by the kernel, loses its packets.",
                command: spare(nil))
        }
    }

    var errors: [Condition.Line] {
        [true, false].flatMap { isIPv4 -> [Condition.Line] in
            let error = isIPv4 ? "icmp type destination-unreachable" : "icmpv6 type packet-too-big"
            return find(["prerouting", "forward", "output", "postrouting"], sparing: error) { rule in
                Self.refusesError(rule, isIPv4: isIPv4)
            } line: { fact, spare in
                .problem(
                    fact,
                    effect: """
                        \(isIPv4 ? "ICMP destination-unreachable" : "ICMPv6 packet-too-big") is lost, \
                        so senders do not learn that a packet is too big: large transfers stall.
                        """, command: spare("\(error) accept"))
            }
        }
    }

    /// Whether a rule about ICMP refuses the error of path MTU discovery.
    private static func refusesError(_ rule: FilterRule, isIPv4: Bool) -> Bool {
        let types: Set = isIPv4 ? ["destination-unreachable", "3"] : ["packet-too-big", "2"]
        if rule.refuses(isIPv4 ? "icmp type" : "icmpv6 type", types) { return true }
        // Of the other family, or of queries.
        if rule.contains(["icmp", "type"]) || rule.contains(["icmpv6", "type"]) { return false }
        let numbers: Set = isIPv4 ? ["1", "icmp"] : ["58", "icmpv6", "ipv6-icmp"]
        return ["meta l4proto", "ip protocol", "ip6 nexthdr"].contains { rule.refuses($0, numbers) }
    }

    // MARK: Rules

    /// - Parameters:
    ///   - incoming: the device that packets come in by; nil: shuck's.
    ///   - sparing: a selector by which an earlier rule may keep packets from this one.
    ///   - line: makes a line of a fact, and of a function that makes a command. The function takes the
    ///     rule to insert before the one that was found; nil deletes that one.
    private func find(
        _ hooks: [String], from incoming: String? = nil, sparing selector: String? = nil,
        _ isOne: (FilterRule) -> Bool, line: (String, (String?) -> String) -> Condition.Line
    ) -> [Condition.Line] {
        ruleset.chains(at: hooks, from: incoming ?? device).flatMap { chain in
            chain.rules.indices.compactMap { index -> Condition.Line? in
                let rule = chain.rules[index]
                guard isOne(rule), rule.concerns(incoming ?? device),
                    !chain.rules[..<index].contains(where: { isSpared(by: $0, rule, selector) })
                else { return nil }
                return line("rule \"\(rule.text)\" of chain \(chain.place)") { inserted in
                    guard let inserted else { return "nft delete rule \(chain.place) handle \(rule.handle)" }
                    let device = selector == nil ? "iifname \(device) " : ""
                    return "nft insert rule \(chain.place) handle \(rule.handle) \(device)\(inserted)"
                }
            }
        }
    }

    /// Whether an earlier rule takes what concerns us before it meets a rule.
    private func isSpared(by earlier: FilterRule, _ rule: FilterRule, _ selector: String?) -> Bool {
        // An ICMP error is related to the connection that it is about.
        if let selector {
            return earlier.accepts && earlier.text.hasPrefix(selector)
                || earlier.accepts("ct state", ["related"])
        }
        guard earlier.leaves else { return false }
        let rest = earlier.text.split(separator: " ").map(String.init)
        // The device alone, or the device and the rule's own state.
        let isShort = rest.count == 3 || earlier.matches("ct state", ["invalid"]) == true
        return earlier.names(device) && isShort
    }
}
