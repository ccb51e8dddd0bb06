// Records of the kernel's log that are still in its buffer.

import Glibc

public enum KernelLog {
    /// The records that contain a text, oldest first, each as `[seconds] message`.
    ///
    /// /dev/kmsg answers each read(2) with one record. EPIPE says that records were overwritten meanwhile;
    /// reading goes on with the oldest one left.
    public static func records(naming text: String) throws(SystemError) -> [String] {
        let path = "/dev/kmsg"
        let number = try check(
            "open", path, grant: "run as root, or set kernel.dmesg_restrict=0"
        ) { open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC) }
        defer { close(number) }
        var records: [String] = []
        var buffer = [UInt8](repeating: 0, count: 8192)
        while true {
            let count = read(number, &buffer, buffer.count)
            if count > 0 {
                if let line = line(String(decoding: buffer[..<count], as: UTF8.self)), line.contains(text) {
                    records.append(line)
                }
            } else if count < 0 && (errno == EPIPE || errno == EINTR) {
                continue
            } else if count == 0 || errno == EAGAIN {
                return records
            } else {
                throw SystemError("read", path, errno: errno)
            }
        }
    }

    /// `priority,sequence,microseconds,flags;message`, then lines of properties.
    public static func line(_ record: String) -> String? {
        let parts = record.split(separator: ";", maxSplits: 1)
        let fields = parts.first?.split(separator: ",") ?? []
        guard parts.count == 2, fields.count >= 3, let time = UInt64(fields[2]) else { return nil }
        let message = parts[1].prefix { $0 != "\n" }
        let fraction = String(time % 1_000_000)
        let zeros = String(repeating: "0", count: 6 - fraction.count)
        return "[\(time / 1_000_000).\(zeros)\(fraction)] \(message)"
    }
}
