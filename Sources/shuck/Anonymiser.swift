// Addresses in texts and in JSON, each replaced by its pseudonym.

import Foundation
import IP
import Settings

struct Anonymiser {
    let pseudonyms: Pseudonyms

    // MARK: Text

    /// Replaces every address. The host bits of `ADDRESS/LENGTH` stay zero where they are.
    func text(_ text: String) -> String {
        var result: [UInt8] = []
        let bytes = Array(text.utf8)
        var index = 0
        while index < bytes.count {
            let start = index
            while index < bytes.count, Self.isAddressByte(bytes[index]) { index += 1 }
            if index == start {
                result.append(bytes[index])
                index += 1
                continue
            }
            let length = Self.length(bytes[index...])
            result += run(String(decoding: bytes[start..<index], as: UTF8.self), length: length).utf8
        }
        return String(decoding: result, as: UTF8.self)
    }

    /// Hexadecimal digits, colons and dots.
    private static func isAddressByte(_ byte: UInt8) -> Bool {
        switch byte {
        case 0x2e, 0x30...0x3a, 0x41...0x46, 0x61...0x66: true
        default: false
        }
    }

    /// The number after a slash, of at most three digits.
    private static func length(_ rest: ArraySlice<UInt8>) -> Int? {
        guard rest.first == UInt8(ascii: "/") else { return nil }
        let digits = rest.dropFirst().prefix { (0x30...0x39).contains($0) }
        return digits.count > 3 ? nil : Int(String(decoding: digits, as: UTF8.self))
    }

    private func run(_ text: String, length: Int?) -> String {
        if let address = Address(text) { return pseudonym(address, length: length).text }
        // The end of a sentence, or of a label.
        if let last = text.last, ".:".contains(last) {
            return run(String(text.dropLast()), length: nil) + [last]
        }
        // With a port, or mapped into IPv6.
        return text.replacing(/[0-9]+\.[0-9]+\.[0-9]+\.[0-9]+/) { match in
            let isLast = match.range.upperBound == text.endIndex
            let address = Address(String(match.output))
            return address.map { pseudonym($0, length: isLast ? length : nil).text } ?? String(match.output)
        }
    }

    private func pseudonym(_ address: Address, length: Int?) -> Address {
        guard let length, let prefix = Prefix(address, length: length), prefix.address == address else {
            return pseudonyms.pseudonym(of: address)
        }
        return pseudonyms.pseudonym(of: prefix).address
    }

    // MARK: JSON

    /// Replaces addresses also where they are numbers, as in facts, or have their length beside them, as
    /// in rules.
    func json(_ text: String) throws -> String {
        let value = try JSONDecoder().decode(JSONValue.self, from: Data(text.utf8))
        return try Output.jsonText(self.value(value), [.prettyPrinted]) + "\n"
    }

    private func value(_ value: JSONValue) -> JSONValue {
        switch value {
        case .string(let text): .string(self.text(text))
        case .array(let values): .array(values.map(self.value))
        case .object(let members): .object(object(members))
        case .null, .boolean, .natural, .integer, .number: value
        }
    }

    private func object(_ members: [String: JSONValue]) -> [String: JSONValue] {
        if let address = Self.address(members) { return Self.members(pseudonyms.pseudonym(of: address)) }
        var changed: [String: JSONValue] = [:]
        var members = members
        // Of a last drop, whose headers hold addresses as bytes.
        if members["packet"] != nil { members["head"] = nil }
        for (key, member) in members { changed[text(key)] = value(member) }
        // `Prefix` of the facts.
        if case .object(let inner)? = members["address"], let address = Self.address(inner),
            case .natural(let length)? = members["length"]
        {
            let masked = pseudonym(address, length: Int(clamping: length))
            changed["address"] = .object(Self.members(masked))
        }
        // Rules of `ip -j`.
        for (key, lengthKey) in [("src", "srclen"), ("dst", "dstlen")] {
            if case .string(let text)? = members[key], case .natural(let length)? = members[lengthKey],
                let address = Address(text)
            {
                changed[key] = .string(pseudonym(address, length: Int(clamping: length)).text)
            }
        }
        return changed
    }

    private static func address(_ members: [String: JSONValue]) -> Address? {
        guard members.count == 2, case .natural(let high)? = members["high"],
            case .natural(let low)? = members["low"]
        else { return nil }
        return Address(high: high, low: low)
    }

    private static func members(_ address: Address) -> [String: JSONValue] {
        ["high": .natural(address.high), "low": .natural(address.low)]
    }
}

/// A document of JSON whose meaning is not known.
indirect enum JSONValue: Codable, Equatable {
    case null
    case boolean(Bool)
    case natural(UInt64)
    case integer(Int64)
    case number(Double)
    case string(String)
    case array([JSONValue])
    case object([String: JSONValue])

    init(from decoder: any Decoder) throws {
        let one = try decoder.singleValueContainer()
        if one.decodeNil() {
            self = .null
        } else if let value = try? one.decode(Bool.self) {
            self = .boolean(value)
        } else if let value = try? one.decode(UInt64.self) {
            self = .natural(value)
        } else if let value = try? one.decode(Int64.self) {
            self = .integer(value)
        } else if let value = try? one.decode(Double.self) {
            self = .number(value)
        } else if let value = try? one.decode(String.self) {
            self = .string(value)
        } else if let value = try? one.decode([JSONValue].self) {
            self = .array(value)
        } else {
            self = .object(try one.decode([String: JSONValue].self))
        }
    }

    func encode(to encoder: any Encoder) throws {
        var one = encoder.singleValueContainer()
        switch self {
        case .null: try one.encodeNil()
        case .boolean(let value): try one.encode(value)
        case .natural(let value): try one.encode(value)
        case .integer(let value): try one.encode(value)
        case .number(let value): try one.encode(value)
        case .string(let value): try one.encode(value)
        case .array(let values): try one.encode(values)
        case .object(let members): try one.encode(members)
        }
    }
}
