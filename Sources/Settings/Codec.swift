// Codec, how the value of a key is read, written and described; Shape and KeyDescription, what the reference
// in docs/configuration.md and the JSON schema say of a key.

/// What a value may be.
indirect enum Shape: Sendable {
    case word(String)
    /// Whole numbers of a unit.
    case number(ClosedRange<Int>, unit: String)
    /// Its name in the reference, and the regular expression that it matches.
    case text(String, pattern: String)
    case list(String, of: Shape)
    /// A mapping whose keys are names.
    case names(String, of: Shape)
    /// A list of mappings.
    case mappings([KeyDescription])
    case choice([Shape])
}

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
    /// nil: the value is wrong, and that has been reported.
    var read: @Sendable (Field) -> Value?
    /// nil: the value means "any" and has no text.
    var item: @Sendable (Value) -> Item?

    /// Reads the same value through a check, which may replace it, or report it and return nil.
    func refined(_ check: @escaping @Sendable (Field, Value) -> Value?) -> Codec {
        Codec(shape: shape, read: { field in read(field).flatMap { check(field, $0) } }, item: item)
    }

    /// Reads the same value, and lets a check report what it finds.
    func checked(_ check: @escaping @Sendable (Field, Value) -> Void) -> Codec {
        refined { field, value in
            check(field, value)
            return value
        }
    }

    /// A value, or a word that stands for nil.
    static func or<Wrapped>(
        _ word: String, _ codec: Codec<Wrapped>
    ) -> Codec where Value == Wrapped? {
        Codec(
            shape: .choice([.word(word), codec.shape]),
            read: { $0.says(word) ? .some(nil) : codec.read($0).map { .some($0) } },
            item: { $0.map(codec.item) ?? .scalar(word) })
    }

    /// A value that is nil only when the key is not written: no word stands for nil.
    static func ifWritten<Wrapped>(_ codec: Codec<Wrapped>) -> Codec where Value == Wrapped? {
        Codec(
            shape: codec.shape, read: { codec.read($0).map { .some($0) } },
            item: { $0.flatMap(codec.item) })
    }
}
