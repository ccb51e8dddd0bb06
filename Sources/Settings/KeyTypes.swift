// Key, one key of a configuration: its place, its codec and its meaning; and Keyed, what has keys.

/// A configuration, or a mapping in one of its lists.
protocol Keyed: Sendable {
    /// The value of a mapping without any key.
    static var initial: Self { get }
    /// In the order of the effective configuration.
    static var keys: [Key<Self>] { get }
}

struct Key<Root: Keyed>: Sendable {
    let description: KeyDescription
    /// What to write instead of nothing; nil: the key may be left out.
    let example: String?
    let read: @Sendable (Field) -> (@Sendable (inout Root) -> Void)?
    let item: @Sendable (Root) -> Item?

    /// - Parameters:
    ///   - required: what to write where the key is missing.
    ///   - unless: the default in words, when no value stands for it.
    init<Value: Sendable>(
        _ path: String, _ property: WritableKeyPath<Root, Value> & Sendable, _ codec: Codec<Value>,
        required: String? = nil, unless: String? = nil, needsRestart: Bool = false, _ help: String
    ) {
        item = { codec.item($0[keyPath: property]) }
        example = required
        let fallback = unless ?? item(Root.initial).map { "`\(Item.line($0))`" }
        description = KeyDescription(
            path: path.split(separator: ".").map(String.init), shape: codec.shape,
            fallback: required == nil ? fallback : nil, needsRestart: needsRestart, help: help)
        read = { field in
            guard let value = codec.read(field) else { return nil }
            return { $0[keyPath: property] = value }
        }
    }

    /// Keys by the next step of their path, in order.
    static func groups(_ keys: [Key], _ depth: Int) -> [(name: String, keys: [Key])] {
        var names: [String] = []
        for key in keys where names.last != key.description.path[depth] {
            names.append(key.description.path[depth])
        }
        return names.map { name in (name, keys.filter { $0.description.path[depth] == name }) }
    }

    /// The values of keys as text.
    static func items(_ root: Root, _ keys: [Key] = Root.keys, depth: Int = 0) -> [(String, Item)] {
        groups(keys, depth).compactMap { name, keys in
            let item =
                keys[0].description.path.count > depth + 1
                ? .mapping(items(root, keys, depth: depth + 1)) : keys[0].item(root)
            return item.map { (name, $0) }
        }
    }
}

extension Loader {
    /// Reads the keys of a mapping into `root`.
    /// - Returns: whether every required key is there and right.
    @discardableResult
    func read<Root>(_ keys: [Key<Root>], of section: Section, into root: inout Root, depth: Int = 0) -> Bool {
        var isWhole = true
        for (name, keys) in Key.groups(keys, depth) {
            guard let field = section[name] else {
                if let example = keys[0].example {
                    isWhole = false
                    if !report.isPartial {
                        report.error(
                            section.position,
                            "\(section.path(of: name)): missing; write \(name): \(example)")
                    }
                }
                continue
            }
            if keys[0].description.path.count > depth + 1 {
                guard let inner = field.section(Key.groups(keys, depth + 1).map(\.name)) else { continue }
                read(keys, of: inner, into: &root, depth: depth + 1)
            } else if let set = keys[0].read(field) {
                set(&root)
            } else if keys[0].example != nil {
                isWhole = false
            }
        }
        return isWhole
    }
}
