// Reads a file, a pipe or a socket to its end.

import Glibc

/// Reads to the end of a file, or until the other end of a pipe or socket closes.
/// - Parameters:
///   - first: bytes that were read before.
///   - limit: bytes that are read at most: a device such as /dev/zero never ends.
/// - Returns: the bytes, and errno if a read failed before the end; EFBIG if there are more than the limit.
public func readWhole(
    _ descriptor: Int32, after first: [UInt8] = [], limit: Int = 512 << 20
) -> (bytes: [UInt8], failure: Int32?) {
    var bytes = first
    var chunk = [UInt8](repeating: 0, count: 65_536)
    while true {
        if bytes.count > limit { return ([], EFBIG) }
        let count = read(descriptor, &chunk, chunk.count)
        if count > 0 {
            bytes += chunk[..<count]
        } else if count == 0 {
            return (bytes, nil)
        } else if errno != EINTR {
            return (bytes, errno)
        }
    }
}

/// Reads a file by its path, or a pipe such as the shell's `<(…)`.
/// - Parameter limit: as `readWhole` takes it.
/// - Returns: as `readWhole`; ETIMEDOUT if nothing writes to a pipe: open(2) would wait without end.
public func readFile(_ path: String, limit: Int = 512 << 20) -> (bytes: [UInt8], failure: Int32?) {
    let number = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC)
    guard number >= 0 else { return ([], errno) }
    defer { close(number) }
    var status = stat()
    guard fstat(number, &status) == 0 else { return ([], errno) }
    var first: [UInt8] = []
    if status.st_mode & S_IFMT == S_IFIFO {
        var waiting = pollfd(fd: number, events: Int16(POLLIN), revents: 0)
        let isReady = poll(&waiting, 1, 2000) > 0
        // Without a writer a pipe is at its end; with one that is slow there is nothing yet (EAGAIN).
        var byte: UInt8 = 0
        let count = read(number, &byte, 1)
        if count == 0 { return ([], isReady ? nil : ETIMEDOUT) }
        if count > 0 { first = [byte] }
    }
    guard fcntl(number, F_SETFL, 0) == 0 else { return ([], errno) }
    return readWhole(number, after: first, limit: limit)
}
