// Attaches classic BPF to sockets.

import CLinux

enum SocketFilter {
    /// Accepts no frame: for the time between bind and the joining of a fanout group.
    static let nothing: [UInt64] = [6]  // BPF_RET | BPF_K, 0

    /// - Parameter program: instructions of 8 bytes as they lie in memory.
    static func attach(
        _ program: [UInt64], to descriptor: Descriptor, _ object: String
    ) throws(SystemError) {
        // The kernel copies the program: the pointer need only outlive the call.
        let memory = UnsafeMutablePointer<UInt64>.allocate(capacity: program.count)
        defer { memory.deallocate() }
        memory.initialize(from: program, count: program.count)
        let filter = sock_fprog(
            len: UInt16(clamping: program.count),
            filter: UnsafeMutableRawPointer(memory).assumingMemoryBound(to: sock_filter.self))
        try descriptor.setOption(
            SOL_SOCKET, SO_ATTACH_FILTER, filter, "setsockopt(SO_ATTACH_FILTER)", object)
    }
}
