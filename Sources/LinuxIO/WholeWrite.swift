// write(2) repeated until all bytes are written.

import Glibc

/// Writes all bytes, and waits for as long as a full pipe makes it wait.
///
/// A descriptor may be non-blocking although this process never asked for that: whoever shares the open
/// file can set it. Then this waits in poll(2).
/// - Returns: how many bytes were written, and errno if that is not all of them.
public func writeWhole(_ bytes: [UInt8], to descriptor: Int32) -> (written: Int, failure: Int32?) {
    var written = 0
    while written < bytes.count {
        let count = bytes[written...].withUnsafeBytes { write(descriptor, $0.baseAddress, $0.count) }
        if count >= 0 {
            written += count
        } else if errno == EAGAIN {
            var polled = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
            poll(&polled, 1, -1)
        } else if errno != EINTR {
            return (written, errno)
        }
    }
    return (written, nil)
}
