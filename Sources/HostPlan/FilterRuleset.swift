// The rules of nftables as nft(8) lists them, as far as doctor asks about them.

/// One rule. Its text is what nft prints; the questions look at words, and take what they do not know for
/// a further condition of the rule.
struct FilterRule: Sendable {
    let text: String
    /// 0 where the list has none.
    let handle: Int
    private let words: [String]

    init(_ line: Substring) {
        let parts = line.split(separator: " # handle ")
        handle = parts.count > 1 ? Int(parts[1]) ?? 0 : 0
        text = String(parts.first ?? "")
        // A comment holds any words.
        var words: [String] = []
        var isQuoted = false
        for word in text.split(separator: " ") {
            if words.last == "comment", word.first == "\"" { isQuoted = true }
            if isQuoted {
                isQuoted = word.last != "\""
            } else {
                words.append(String(word.filter { $0 != "\"" }))
            }
        }
        self.words = words
    }

    var refuses: Bool { words.contains("drop") || words.contains("reject") }
    var accepts: Bool { words.contains("accept") }
    /// The chain ends for the packet, without a refusal.
    var leaves: Bool { accepts || words.contains("return") }

    /// Whether the rule may keep a packet from the policy of its chain: itself, by a chain that it leads to,
    /// or by a target of iptables that nft does not show.
    var mayAccept: Bool {
        words.contains { ["accept", "jump", "goto", "vmap", "queue", "xt"].contains($0) }
    }

    /// Chains that the rule leads to.
    var targets: [String] {
        words.indices.dropLast().filter { ["jump", "goto"].contains(words[$0]) }.map { at in
            String(words[at + 1].filter { $0 != "," })
        }
    }

    func contains(_ sequence: [String]) -> Bool { end(of: sequence) != nil }

    /// What stands behind the last word of a sequence.
    private func end(of sequence: [String]) -> Int? {
        words.indices.first { words[$0...].starts(with: sequence) }.map { $0 + sequence.count }
    }

    /// What a selector such as `icmp type` is compared with; nil: the rule has no such selector.
    func values(_ selector: String) -> (isInverted: Bool, values: Set<String>)? {
        guard var place = end(of: selector.split(separator: " ").map(String.init)), place < words.count else {
            return nil
        }
        let isInverted = words[place] == "!="
        if isInverted || words[place] == "==" { place += 1 }
        // A map of verdicts compares with several values, each with a verdict of its own.
        guard place < words.count, words[place] != "vmap" else { return nil }
        guard words[place] == "{" else {
            return (isInverted, Set(words[place].split(separator: ",").map(String.init)))
        }
        let set = words[(place + 1)...].prefix { $0 != "}" }
        return (isInverted, Set(set.map { String($0.filter { $0 != "," }) }))
    }

    /// Whether the selector lets one of the values through.
    func matches(_ selector: String, _ wanted: Set<String>) -> Bool? {
        values(selector).map { $0.values.isDisjoint(with: wanted) == $0.isInverted }
    }

    /// Selectors of the device that packets come in by. The words behind `fib` are part of its key.
    private var incoming: [String] { contains(["fib"]) ? ["iifname"] : ["iifname", "iif"] }

    /// Whether the rule refuses packets of which a selector has one of these values.
    func refuses(_ selector: String, _ wanted: Set<String>) -> Bool {
        (refuses && matches(selector, wanted) == true) || verdicts(selector, wanted).contains("drop")
    }

    func accepts(_ selector: String, _ wanted: Set<String>) -> Bool {
        (accepts && matches(selector, wanted) == true) || verdicts(selector, wanted).contains("accept")
    }

    /// What a map of verdicts has for values: `ct state vmap { invalid : drop, related : accept }`.
    private func verdicts(_ selector: String, _ wanted: Set<String>) -> [String] {
        let map = selector.split(separator: " ").map(String.init) + ["vmap", "{"]
        guard let start = end(of: map) else { return [] }
        let entries = words[start...].prefix { $0 != "}" }
        return entries.indices.dropLast(2).filter { wanted.contains(entries[$0]) && entries[$0 + 1] == ":" }
            .map { at in String(entries[at + 2].filter { $0 != "," }) }
    }

    /// Whether packets that come in by the device may meet the rule.
    func concerns(_ device: String) -> Bool {
        for selector in incoming {
            guard let (isInverted, names) = values(selector) else { continue }
            let isNamed = names.contains { name in
                name.hasSuffix("*") ? device.hasPrefix(name.dropLast()) : name == device
            }
            if isNamed == isInverted { return false }
        }
        return true
    }

    /// Whether the rule names the device that packets come in by.
    func names(_ device: String) -> Bool {
        incoming.contains { values($0) != nil } && concerns(device)
    }
}

/// A chain, of a table.
struct FilterChain: Sendable {
    let family: String
    let table: String
    let name: String
    /// nil: other chains lead here.
    var hook: String?
    var dropsByPolicy = false
    var rules: [FilterRule] = []

    var place: String { "\(family) \(table) \(name)" }
}

/// All chains of a network namespace.
struct FilterRuleset: Sendable {
    private(set) var chains: [FilterChain] = []
    /// Indices into `chains`, by place.
    private var places: [String: Int] = [:]

    init(_ lines: [String]) {
        var table: (family: String, name: String)?
        var chain: FilterChain?
        var depth = 0
        for line in lines {
            let words = line.split(whereSeparator: \.isWhitespace).map(String.init)
            guard let first = words.first, !first.hasPrefix("#") else { continue }
            if first == "table", words.count >= 3, depth == 0 { table = (words[1], words[2]) }
            if first == "chain", words.count >= 2, depth == 1, let table {
                chain = FilterChain(family: table.family, table: table.name, name: words[1])
            }
            let isRule = depth == 2 && chain != nil && first != "}"
            if isRule { Self.add(line.drop(while: \.isWhitespace), words, to: &chain) }
            // Sets within a rule stand on its line, and close there.
            depth += words.count { $0 == "{" } - words.count { $0 == "}" }
            if depth == 1, first == "}", let ended = chain {
                places[ended.place] = chains.count
                chains.append(ended)
                chain = nil
            }
        }
    }

    private static func add(_ line: Substring, _ words: [String], to chain: inout FilterChain?) {
        guard words[0] == "type", let hook = words.firstIndex(of: "hook"), hook + 1 < words.count else {
            chain?.rules.append(FilterRule(line))
            return
        }
        chain?.hook = words[hook + 1]
        chain?.dropsByPolicy = words.contains("drop;")
    }

    /// Chains that a packet which comes in by the device may go through at these hooks. kube-proxy makes ten
    /// thousand chains: each is looked at once.
    func chains(at hooks: [String], from device: String) -> [FilterChain] {
        var found = chains.filter { chain in chain.hook.map { hooks.contains($0) } ?? false }
        var known = Set(found.map(\.place))
        var next = 0
        while next < found.count {
            let chain = found[next]
            next += 1
            for rule in chain.rules where rule.concerns(device) {
                for target in rule.targets {
                    let place = "\(chain.family) \(chain.table) \(target)"
                    guard known.insert(place).inserted, let index = places[place] else { continue }
                    found.append(chains[index])
                }
            }
        }
        return found
    }
}
