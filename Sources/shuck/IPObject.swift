// An object of the JSON that `ip -j` prints: its values by key.

import Foundation

struct IPObject {
    private let values: [String: Any]

    /// The objects of a file.
    /// - Parameters:
    ///   - path: a file, or a pipe such as the shell's `<(ip -j route)`.
    ///   - command: prints such files.
    static func read(_ path: String, command: String) throws(Failure) -> [IPObject] {
        let bytes = try TextFile.bytes(path)
        let list = try? JSONSerialization.jsonObject(with: Data(bytes))
        guard let objects = list as? [[String: Any]] else {
            throw Failure(message: "\(path) is not what `\(command)` prints: a JSON list of objects")
        }
        return objects.map(IPObject.init)
    }

    var keys: [String] { Array(values.keys) }

    /// Whether the key is there, perhaps with the value null: words such as `not` have no value.
    func has(_ key: String) -> Bool { values[key] != nil }

    /// A text, or a number as text: iproute2 writes some numbers in quotes.
    func text(_ key: String) -> String? {
        let value = values[key]
        return value as? String ?? (value as? NSNumber)?.stringValue
    }

    /// A decimal number, or a hexadecimal one as `0x1f`.
    func number<Number: FixedWidthInteger>(_ key: String) throws(Failure) -> Number? {
        guard let text = text(key) else { return nil }
        let number = text.hasPrefix("0x") ? Number(text.dropFirst(2), radix: 16) : Number(text)
        guard let number else {
            throw Failure(message: "\"\(key)\" is \"\(text)\", not a number: `ip -N -j` prints numbers")
        }
        return number
    }

    /// The object under a key, or those of the list there.
    func objects(_ key: String) -> [IPObject] {
        let value = values[key]
        let objects = value as? [[String: Any]] ?? (value as? [String: Any]).map { [$0] }
        return (objects ?? []).map(IPObject.init)
    }

    /// The words of a list.
    func words(_ key: String) -> [String] {
        let value = values[key]
        return value as? [String] ?? []
    }
}

extension [IPObject] {
    /// Adds to a failure which object of a file it is about.
    func each(
        _ kind: String, in path: String, _ body: (IPObject) throws(Failure) -> Void
    ) throws(Failure) {
        for (index, object) in enumerated() {
            do throws(Failure) {
                try body(object)
            } catch {
                throw Failure(message: "\(path): \(kind) \(index): \(error.message)")
            }
        }
    }
}
