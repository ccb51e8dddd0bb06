// One key of a configuration: where it stands, how its value is read and written, and what it
// means. Keys.swift has all of them; codecs are in Codecs.swift.

/// What a value may be. The reference in docs/configuration.md and the JSON schema are made of it.
indirect enum Shape: Sendable {
    case word(String)
    /// Whole numbers of a unit.
    case number(ClosedRange<Int>, unit: String)
    /// What the reference calls it, and the regular expression that it matches.
    case text(String, pattern: String)
    case list(String, of: Shape)
    /// A mapping whose keys are names.
    case names(String, of: Shape)
    /// A list of mappings.
    case mappings([KeyDescription])
    case choice([Shape])
}

/// What the reference and the schema say of a key.
struct KeyDescription: Sendable {
    /// From the mapping that holds it: `fragments.memory` in `outer`.
    var path: [String]
    var shape: Shape
    /// As YAML, or in words where the default is no value of its own; nil: the key is required.
    var fallback: String?
    var needsRestart: Bool
    var help: String
}

/// How a value is read, written and described.
struct Codec<Value>: Sendable {
    var shape: Shape
    /// nil: it is wrong, and that has been reported.
    var read: @Sendable (Field) -> Value?
    /// nil: the value means "any" and has no text.
    var item: @Sendable (Value) -> Item?

    /// The same value where it stands the check, which reports why it does not.
    func refined(_ check: @escaping @Sendable (Field, Value) -> Value?) -> Codec {
        Codec(shape: shape, read: { field in read(field).flatMap { check(field, $0) } }, item: item)
    }

    /// The same value, which is also looked at together with others: a check reports what it finds.
    func checked(_ check: @escaping @Sendable (Field, Value) -> Void) -> Codec {
        refined { field, value in
            check(field, value)
            return value
        }
    }

    /// A value, or a word, which is nil.
    static func or<Wrapped>(
        _ word: String, _ codec: Codec<Wrapped>
    ) -> Codec where Value == Wrapped? {
        Codec(
            shape: .choice([.word(word), codec.shape]),
            read: { $0.says(word) ? .some(nil) : codec.read($0).map { .some($0) } },
            item: { $0.map(codec.item) ?? .scalar(word) })
    }

    /// A value where the key is written; nil where it is not, which has no word.
    static func ifWritten<Wrapped>(_ codec: Codec<Wrapped>) -> Codec where Value == Wrapped? {
        Codec(
            shape: codec.shape, read: { codec.read($0).map { .some($0) } },
            item: { $0.flatMap(codec.item) })
    }
}

/// What has keys: a configuration, and the mappings in its lists.
protocol Keyed: Sendable {
    /// What a mapping without any key comes to.
    static var initial: Self { get }
    /// In the order in which they are written.
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
    ///   - unless: the default in words, where it is no value of its own.
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

    /// The values of keys, as they are written.
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
    /// - Returns: whether each that must be there is there, and right.
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
