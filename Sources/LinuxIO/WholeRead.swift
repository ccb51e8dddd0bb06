// read(2) repeated until the end of a file.

import Glibc

/// Reads to the end of a file, or until the other end of a pipe or socket closes.
/// - Parameter limit: bytes that are read at most: a device such as /dev/zero never ends.
/// - Returns: the bytes, and errno if a read failed before the end; EFBIG if there are more than the limit.
public func readWhole(_ descriptor: Int32, limit: Int = 512 << 20) -> (bytes: [UInt8], failure: Int32?) {
    var bytes: [UInt8] = []
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
