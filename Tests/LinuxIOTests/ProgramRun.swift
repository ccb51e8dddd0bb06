// Runs a loaded BPF program over a frame.

import CLinux

@testable import LinuxIO

extension BPF {
    /// Runs a loaded program over one frame (`BPF_PROG_TEST_RUN`).
    /// - Returns: its answer, and the nanoseconds of one run.
    static func run(
        _ program: Descriptor, frame: [UInt8], times: UInt32 = 1
    ) throws(SystemError) -> (answer: Int32, nanoseconds: UInt32) {
        var attributes = bpf_attr()
        try frame.withUnsafeBufferPointer { (bytes) throws(SystemError) in
            attributes.test.prog_fd = UInt32(program.number)
            attributes.test.data_in = UInt64(UInt(bitPattern: bytes.baseAddress))
            attributes.test.data_size_in = UInt32(bytes.count)
            attributes.test.repeat = times
            try call(BPF_PROG_TEST_RUN, &attributes, "bpf(BPF_PROG_TEST_RUN)", "claim program")
        }
        return (Int32(bitPattern: attributes.test.retval), attributes.test.duration)
    }
}
