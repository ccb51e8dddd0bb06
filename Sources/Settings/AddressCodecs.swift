// How addresses and prefixes are read and written.

import IP

extension Field {
    /// The text of an address; explains what YAML makes of `2001:db8::` in a list.
    fileprivate func addressText(_ remedy: String) -> String? {
        if case .mapping(let entries) = value.content, entries.count == 1, entries[0].key.contains(":") {
            var text = entries[0].key + ":"
            if case .scalar(let rest, _) = entries[0].value.content { text += " \(rest)" }
            return wrong("is what YAML makes of \(text); put it in quotes: \"\(text)\"")
        }
        return text ?? wrong("is not an address; \(remedy)")
    }
}

extension Codec<Prefix> {
    static var prefix: Codec {
        let example = "write one such as 192.0.2.0/24 or \"2001:db8::/64\""
        return Codec(
            shape: .text("prefix", pattern: "^[0-9a-fA-F.:]+(/[0-9]+)?$"),
            read: { field in
                guard let text = field.addressText(example) else { return nil }
                switch PrefixText.read(text) {
                case .success(let right): return right
                case .failure(.hostBits(let right)):
                    let host = text.prefix { $0 != "/" }
                    return field.wrong(
                        "has host bits set; write \(right.text), or \(host) for that one")
                case .failure(.lengthOutOfRange(let max)):
                    return field.wrong("has a wrong prefix length; write a number from 0 to \(max)")
                case .failure(.mapped):
                    return field.wrong("is an IPv4 address as IPv6, which no header carries; write IPv4")
                case .failure(.notAnAddress):
                    return field.wrong("is not an IPv4 or IPv6 address or prefix; \(example)")
                }
            },
            item: { .scalar(Item.quoted($0.text)) })
    }

    /// A prefix that holds one address.
    static var host: Codec {
        prefix.refined { field, host in
            host.isHost ? host : field.wrong("is more than one address; write /\(host.isIPv4 ? 32 : 128)")
        }
    }
}

extension Codec<Address> {
    /// An address of one family; `auto` stands for none.
    static func address(isIPv4: Bool) -> Codec {
        let family = isIPv4 ? "IPv4" : "IPv6"
        let remedy = "write auto or an \(family) address"
        return Codec(
            shape: .text("an \(family) address", pattern: isIPv4 ? "^[0-9.]+$" : "^[0-9a-fA-F.:]+$"),
            read: { field in
                guard let text = field.addressText(remedy) else { return nil }
                guard let address = Address(text), address.isIPv4 == isIPv4 else {
                    return field.wrong("is not an \(family) address; \(remedy)")
                }
                return address
            },
            // YAML takes a colon at the end of a text for its own.
            item: { .scalar(isIPv4 ? $0.text : "\"\($0.text)\"") })
    }
}

extension Codec<Address> {
    /// An address of either family.
    static var anyAddress: Codec {
        let remedy = "write an IPv4 or IPv6 address"
        return Codec(
            shape: .text("address", pattern: "^[0-9a-fA-F.:]+$"),
            read: { field in
                guard let text = field.addressText(remedy) else { return nil }
                return Address(text) ?? field.wrong("is not an address; \(remedy)")
            },
            item: { .scalar(Item.quoted($0.text)) })
    }
}

// MARK: - Source rewriting

extension Codec<Prefix> {
    /// One IPv6 address: only a rewrite of one address to one can be undone without state.
    private static var oneAddress: Codec {
        prefix.refined { field, host in
            if host.isIPv4 {
                return field.wrong("is IPv4; only IPv6 sources are rewritten, so write IPv6")
            }
            return host.isHost
                ? host
                : field.wrong("is more than one address; write one, as \(host.address.text)/128")
        }
    }

    static var rewrittenSource: Codec {
        oneAddress.refined { field, host in
            host.isUnicast || host.isLinkLocal
                ? host : field.wrong("is nobody's source; write the address that probes come from")
        }
    }

    fileprivate static var global: Codec {
        oneAddress.refined { field, host in
            if host.isLinkLocal {
                return field.wrong("is link-local, which no router forwards; write a global one")
            }
            return host.isUnicast ? host : field.wrong("is no unicast address; write a global one")
        }
    }
}

extension Codec<Address> {
    static var rewriteTarget: Codec {
        let host = Codec<Prefix>.global
        return Codec(
            shape: host.shape, read: { host.read($0)?.address }, item: { .scalar(Item.quoted($0.text)) })
    }
}

extension Prefix {
    fileprivate var isLinkLocal: Bool { isWithin(AddressClass.linkLocal) }

    /// Whether this IPv6 prefix may hold a host's address beyond a link.
    fileprivate var isUnicast: Bool { !isWithin(AddressClass.linkLocal | AddressClass.martian) }

    private func isWithin(_ flags: UInt32) -> Bool {
        SpecialPrefix.table.contains { $0.flags & flags != 0 && $0.prefix.covers(self) }
    }
}
