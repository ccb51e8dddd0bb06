// A YAML value and its place. Scalars keep their text: what a text means depends on its key.

struct Value {
    enum Content {
        case null
        /// `plain`: written without quotes.
        case scalar(String, plain: Bool)
        case list([Value])
        case mapping([Entry])
        /// A value whose problem has been reported already.
        case poison
    }

    struct Entry {
        var key: String
        var position: Position
        var value: Value
    }

    var position: Position
    var content: Content

    /// A scalar's text; nil for anything else.
    var text: String? {
        if case .scalar(let text, _) = content { text } else { nil }
    }

    /// The text of the scalar under `key`, where there is one.
    func text(of key: String) -> String? {
        guard case .mapping(let entries) = content else { return nil }
        return entries.first { $0.key == key }?.value.text
    }
}
