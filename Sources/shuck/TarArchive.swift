// A tar archive as bytes: regular files in POSIX.1-1988 ustar headers, which every tar reads.

struct TarArchive {
    enum Refusal: Error, Equatable {
        /// Longer than the 100 bytes of the header's name field, or empty.
        case name(String)
    }

    /// Unix time of every member, in seconds.
    let time: UInt32
    private var body: [UInt8] = []

    private static let blockBytes = 512

    init(time: UInt32) { self.time = time }

    /// Appends a regular file that only its owner may read.
    mutating func add(_ name: String, _ bytes: [UInt8]) throws(Refusal) {
        guard (1...100).contains(name.utf8.count) else { throw .name(name) }
        body += Self.header(name, size: bytes.count, time: time)
        body += bytes
        body += [UInt8](repeating: 0, count: -bytes.count & (Self.blockBytes - 1))
    }

    /// The archive, ended by two blocks of zeros and filled up to records of 10,240 bytes.
    var bytes: [UInt8] {
        let record = 20 * Self.blockBytes
        let end = (body.count + 2 * Self.blockBytes + record - 1) / record * record
        return body + [UInt8](repeating: 0, count: end - body.count)
    }

    private static func header(_ name: String, size: Int, time: UInt32) -> [UInt8] {
        var header = [UInt8](repeating: 0, count: blockBytes)
        func put(_ text: String, at offset: Int) {
            header.replaceSubrange(offset..<offset + text.utf8.count, with: text.utf8)
        }
        func octal(_ value: Int, digits: Int) -> String {
            let text = String(value, radix: 8)
            return String(repeating: "0", count: max(0, digits - text.count)) + text
        }
        put(name, at: 0)
        put(octal(0o600, digits: 7), at: 100)
        // User and group 0.
        put(octal(0, digits: 7), at: 108)
        put(octal(0, digits: 7), at: 116)
        put(octal(size, digits: 11), at: 124)
        put(octal(Int(time), digits: 11), at: 136)
        // The checksum is computed with its own field as spaces.
        put("        ", at: 148)
        put("0", at: 156)
        put("ustar", at: 257)
        put("00", at: 263)
        put(octal(header.reduce(0) { $0 + Int($1) }, digits: 6) + "\0 ", at: 148)
        return header
    }
}
