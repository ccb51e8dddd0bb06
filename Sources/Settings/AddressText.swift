// Addresses and prefixes as text, by the C library's own rules. The one file that needs Glibc.

import Glibc
import IP

extension Address {
    /// Reads dotted-quad IPv4 or RFC 4291 §2.2 IPv6 by inet_pton(3). nil for anything else,
    /// and for an IPv4-mapped IPv6 address (`::ffff:192.0.2.1`), which no header may carry.
    public init?(_ text: String) {
        // inet_pton(3) would stop at a NUL and take what stands before it.
        guard !text.utf8.contains(0) else { return nil }
        var bytes = [UInt8](repeating: 0, count: 16)
        if inet_pton(AF_INET, text, &bytes) == 1 {
            self.init(bytes: bytes.prefix(4))
            return
        }
        guard inet_pton(AF_INET6, text, &bytes) == 1 else { return nil }
        self.init(bytes: bytes)
        if isIPv4 { return nil }
    }

    /// As inet_ntop(3) has it: `192.0.2.1`, `2001:db8::1`.
    public var text: String {
        var buffer = [CChar](repeating: 0, count: Int(INET6_ADDRSTRLEN))
        let bytes = bytes
        let family = isIPv4 ? AF_INET : AF_INET6
        // The buffer holds the longest text of either family: it cannot fail.
        _ = inet_ntop(family, bytes, &buffer, socklen_t(buffer.count))
        let text = buffer.prefix { $0 != 0 }.map(UInt8.init(bitPattern:))
        return String(decoding: text, as: UTF8.self)
    }
}

extension Prefix {
    /// Reads `ADDRESS/LENGTH`, or an address alone as the prefix that holds only it.
    /// nil for anything else, also where a host bit is set, as in `10.0.0.1/8`.
    public init?(_ text: String) {
        guard case .success(let prefix) = PrefixText.read(text) else { return nil }
        self = prefix
    }

    /// `192.0.2.0/24`; the length is always written.
    public var text: String { "\(address.text)/\(length)" }
}

/// Why a text is no prefix.
enum PrefixText {
    enum Failure: Error, Equatable {
        case notAnAddress
        /// IPv4-mapped IPv6.
        case mapped
        case lengthOutOfRange(max: Int)
        case hostBits(right: Prefix)
    }

    static func read(_ text: String) -> Result<Prefix, Failure> {
        let parts = text.split(separator: "/", maxSplits: 1, omittingEmptySubsequences: false)
        guard let address = Address(String(parts[0])) else {
            let isMapped = parts[0].lowercased().hasPrefix("::ffff:")
            return .failure(isMapped ? .mapped : .notAnAddress)
        }
        guard parts.count == 2 else { return .success(Prefix(host: address)) }
        let max = address.isIPv4 ? 32 : 128
        guard let length = decimal(parts[1]), let prefix = Prefix(address, length: length) else {
            return .failure(.lengthOutOfRange(max: max))
        }
        return prefix.address == address ? .success(prefix) : .failure(.hostBits(right: prefix))
    }
}

/// A number of decimal digits only: no sign, no space, no leading zero but in `0` itself.
func decimal(_ text: some StringProtocol) -> Int? {
    guard !text.isEmpty, text.utf8.allSatisfy({ (0x30...0x39).contains($0) }),
        text.utf8.count == 1 || text.utf8.first != 0x30
    else { return nil }
    return Int(text)
}
