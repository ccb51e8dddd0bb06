// Bytes that end where their memory ends: AddressSanitizer sees every read beyond them.

import IP

/// Calls `body` with a copy of `bytes` in memory of just that length.
func withBytes<R>(_ bytes: [UInt8], _ body: (Bytes) throws -> R) rethrows -> R {
    try withMemory(bytes) { try body(Bytes($0, count: bytes.count)) }
}

/// The same to write to.
func withMemory<R>(_ bytes: [UInt8], _ body: (UnsafeMutableRawPointer) throws -> R) rethrows -> R {
    let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: bytes.count, alignment: 1)
    defer { memory.deallocate() }
    memory.copyBytes(from: bytes)
    guard let base = memory.baseAddress else { preconditionFailure("no bytes") }
    return try body(base)
}

/// What `body` makes of so many zeros.
func written(_ count: Int, _ body: (UnsafeMutableRawPointer) -> Void) -> [UInt8] {
    withMemory([UInt8](repeating: 0, count: count)) { base in
        body(base)
        return Array(UnsafeRawBufferPointer(start: base, count: count))
    }
}
