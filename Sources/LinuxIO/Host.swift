// What the host says of itself: kernel settings, capabilities, clocks, signals.

import CLinux
import Glibc

public enum Host {
    /// The text of a small file without its last newline; nil when it cannot be read.
    public static func read(_ path: String) -> String? {
        let number = open(path, O_RDONLY | O_CLOEXEC)
        guard number >= 0 else { return nil }
        defer { close(number) }
        var text = readWhole(number).bytes
        if text.last == UInt8(ascii: "\n") { text.removeLast() }
        return String(decoding: text, as: UTF8.self)
    }

    /// A file itself, neither read nor followed where it is a symbolic link; number -1 when it is missing.
    public static func openPath(_ path: String) -> Descriptor {
        Descriptor(open(path, Int32(CLINUX_O_PATH) | O_NOFOLLOW | O_CLOEXEC))
    }

    /// lstat(2): of a symbolic link its own; nil where there is nothing.
    public static func status(of path: String) -> stat? {
        var status = stat()
        return lstat(path, &status) == 0 ? status : nil
    }

    /// The names in a folder; none when it cannot be read.
    public static func entries(_ path: String) -> [String] {
        guard let folder = opendir(path) else { return [] }
        defer { closedir(folder) }
        var names: [String] = []
        while let entry = readdir(folder) {
            let name = withUnsafePointer(to: &entry.pointee.d_name) {
                $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
            if name != "." && name != ".." { names.append(name) }
        }
        return names
    }

    /// A sysctl by its dotted name, of this network namespace; nil where it cannot be read.
    public static func sysctl(_ name: String) -> String? { read(sysctlPath(name)) }

    /// Whether the kernel has a sysctl. Takes no descriptor, so that a process that has none left does
    /// not take a setting for missing.
    public static func hasSysctl(_ name: String) -> Bool { status(of: sysctlPath(name)) != nil }

    /// Sets a sysctl by its dotted name, of this network namespace.
    public static func setSysctl(_ name: String, _ value: String) throws(SystemError) {
        let hint = "/proc/sys may be read-only, as in a container: run it outside"
        try write(value + "\n", to: sysctlPath(name), hint: hint)
    }

    /// Writes to a file that is there.
    static func write(_ text: String, to path: String, hint: String) throws(SystemError) {
        let file = Descriptor(
            try check("open", path, hint: hint) { Glibc.open(path, O_WRONLY | O_CLOEXEC) })
        if let error = writeWhole(Array(text.utf8), to: file.number).failure {
            throw SystemError("write", path, errno: error, hint: hint)
        }
    }

    private static func sysctlPath(_ name: String) -> String {
        "/proc/sys/" + String(name.map { $0 == "." ? "/" : $0 })
    }

    /// CAP_* numbers of linux/capability.h that this process lacks, by name.
    public static func missingCapabilities() -> [String] {
        var effective: UInt64 = 0
        guard clinux_capabilities(&effective) == 0 else { return [] }
        let needed = [("CAP_NET_ADMIN", CAP_NET_ADMIN), ("CAP_NET_RAW", CAP_NET_RAW)]
        return needed.filter { effective >> UInt64($0.1) & 1 == 0 }.map(\.0)
    }

    /// CLOCK_MONOTONIC in nanoseconds.
    @inline(__always)
    public static func monotonicNanoseconds() -> UInt64 { clinux_monotonic_ns() }

    /// How much later than asked for, in nanoseconds, the kernel may wake the calling thread
    /// (prctl(2) `PR_SET_TIMERSLACK`).
    public static func setTimerSlack(_ nanoseconds: Int) { clinux_timer_slack(UInt(nanoseconds)) }

    /// Sleeps up to the timer slack. The kernel wakes us at the next timer interrupt, so this arms no timer
    /// of its own.
    public static func nap() {
        var time = timespec(tv_sec: 0, tv_nsec: 1)
        clock_nanosleep(CLOCK_MONOTONIC, 0, &time, nil)
    }

    /// CLOCK_REALTIME in seconds.
    public static func unixSeconds() -> Double {
        var time = timespec()
        clock_gettime(CLOCK_REALTIME, &time)
        return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
    }

    /// CLOCK_REALTIME in local time, as RFC 3339 has it.
    public static func timestamp() -> String {
        var time = timespec()
        clock_gettime(CLOCK_REALTIME, &time)
        var parts = tm()
        localtime_r(&time.tv_sec, &parts)
        return timestamp(parts, milliseconds: time.tv_nsec / 1_000_000)
    }

    /// RFC 3339 with milliseconds and the offset from UTC.
    static func timestamp(_ parts: tm, milliseconds: Int) -> String {
        func digits(_ value: some BinaryInteger, _ count: Int = 2) -> String {
            let text = "\(value)"
            return String(repeating: "0", count: max(count - text.count, 0)) + text
        }
        let date = [digits(Int(parts.tm_year) + 1900, 4), digits(parts.tm_mon + 1), digits(parts.tm_mday)]
        let time = [digits(parts.tm_hour), digits(parts.tm_min), digits(parts.tm_sec)]
        let minutes = abs(parts.tm_gmtoff / 60)
        return date.joined(separator: "-") + "T" + time.joined(separator: ":")
            + ".\(digits(milliseconds, 3))" + (parts.tm_gmtoff < 0 ? "-" : "+")
            + "\(digits(minutes / 60)):\(digits(minutes % 60))"
    }
}

extension Host {
    /// Descriptors that this process may have open (RLIMIT_NOFILE).
    public static func descriptorLimit() -> Int {
        var limit = rlimit()
        guard getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else { return 1024 }
        return Int(clamping: limit.rlim_cur)
    }

    /// Bytes that this process may lock in memory (RLIMIT_MEMLOCK); nil: any number.
    public static func lockedBytesLimit() -> Int? {
        var limit = rlimit()
        let isKnown = getrlimit(__rlimit_resource_t(CLINUX_RLIMIT_MEMLOCK), &limit) == 0
        return isKnown && limit.rlim_cur != ~0 ? Int(clamping: limit.rlim_cur) : nil
    }

    /// Raises RLIMIT_NOFILE to its hard limit. The usual soft limit of 1024 is there for select(2),
    /// which nothing here calls.
    public static func raiseDescriptorLimit() {
        var limit = rlimit()
        guard getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else { return }
        limit.rlim_cur = limit.rlim_max
        // Refused, the soft limit stays; what is needed is compared with it before anything opens.
        _ = setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
    }
}

extension Host {
    /// What this process uses, from /proc/self.
    public static func processUsage() -> (residentBytes: Int, cpuSeconds: Double, descriptors: Int) {
        let pages = read("/proc/self/statm")?.split(separator: " ").dropFirst().first
        var usage = rusage()
        getrusage(__rusage_who_t(RUSAGE_SELF.rawValue), &usage)
        func seconds(_ time: timeval) -> Double { Double(time.tv_sec) + Double(time.tv_usec) / 1e6 }
        // Not the folder's own, which reading it takes.
        let descriptors = entries("/proc/self/fd").count - 1
        return (
            (pages.flatMap { Int($0) } ?? 0) * Int(getpagesize()),
            seconds(usage.ru_utime) + seconds(usage.ru_stime), descriptors
        )
    }

    /// Sleeps until one of the descriptors can be read, or the time is over.
    /// - Parameters:
    ///   - failing: descriptors that only an error of wakes. A TUN whose device goes wakes those who
    ///     wait for anything to read (drivers/net/tun.c `tun_detach_all`), not those who wait for errors
    ///     alone. It never has priority data, so waiting for that hears of its end and of no packet.
    ///   - milliseconds: -1 for ever.
    /// - Returns: for each descriptor of both lists whether it woke us.
    public static func waitReadable(
        _ descriptors: [Int32], failing: [Int32] = [], milliseconds: Int32
    ) -> [Bool] {
        var polled =
            descriptors.map { pollfd(fd: $0, events: Int16(POLLIN), revents: 0) }
            + failing.map { pollfd(fd: $0, events: Int16(POLLPRI), revents: 0) }
        if poll(&polled, nfds_t(polled.count), milliseconds) < 0 && errno != EINTR {
            // More descriptors than the limit of open files, which was lowered: not to be asked in a spin.
            pause(milliseconds: UInt32(clamping: min(milliseconds, 100)))
        }
        return polled.map { $0.revents != 0 }
    }
}

extension Host {
    /// The kernel kills this process when its parent's thread that started it ends.
    public static func endWithParent(_ parent: pid_t) throws(SystemError) {
        try checkNegative("prctl(PR_SET_PDEATHSIG)", "shuck", clinux_signal_at_parents_end(SIGKILL))
        // It may have ended before.
        guard getppid() == parent else { throw SystemError("getppid", "shuck", errno: ESRCH) }
    }

    /// Gives this process alone a /sys that shows the network namespace of its thread.
    /// - Returns: false where that is not permitted.
    @discardableResult
    public static func mountOwnSysfs() -> Bool { clinux_mount_own_sysfs() == 0 }

    /// The calling thread's, as ps(1) has it: at most 15 bytes.
    public static func nameThread(_ name: String) { clinux_name_self(name) }

    /// Sleeps.
    public static func pause(milliseconds: UInt32) { usleep(milliseconds * 1000) }
}
