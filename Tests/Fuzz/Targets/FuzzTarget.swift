// What each fuzzer does with an input: one file a target, the same for libFuzzer and for tests.

import Glibc
import Model

/// An input for which something that must always hold did not.
public struct Violation: Error, CustomStringConvertible {
    public let description: String
    init(_ description: String) { self.description = description }
}

public protocol FuzzTarget: AnyObject {
    init()
    /// Whatever the bytes are, nothing crashes and nothing is violated.
    func run(_ input: UnsafeRawBufferPointer) throws(Violation)
    /// Changes an input of known structure; nil: any change is as good as another.
    func mutate(_ input: [UInt8], _ random: inout Random) -> [UInt8]?
    /// The number-th input to begin with; nil where those are files made by hand.
    func seed(_ number: Int) -> [UInt8]?
}

extension FuzzTarget {
    public func mutate(_ input: [UInt8], _ random: inout Random) -> [UInt8]? { nil }
    public func seed(_ number: Int) -> [UInt8]? { nil }
}

public enum FuzzTargets {
    public static let all: [String: any (FuzzTarget & SendableMetatype).Type] = [
        "frame": FrameTarget.self, "reassembly": ReassemblyTarget.self,
        "yaml": SettingsTarget.self, "netlink": NetlinkTarget.self, "pcap": CaptureTarget.self,
    ]
}

/// Memory that ends where a page begins that cannot be touched: finds overruns also without
/// AddressSanitizer.
final class GuardedMemory {
    private let capacity: Int
    private let end: UnsafeMutableRawPointer

    init(capacity: Int) {
        let page = Int(sysconf(Int32(_SC_PAGESIZE)))
        self.capacity = (capacity + page - 1) / page * page
        let start = mmap(
            nil, self.capacity + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)!
        precondition(start != MAP_FAILED)
        end = start + self.capacity
        precondition(mprotect(end, page, PROT_NONE) == 0)
    }

    /// The bytes, right before the page that cannot be touched.
    func copy(_ bytes: UnsafeRawBufferPointer) -> UnsafeRawPointer {
        let start = room(bytes.count)
        if let base = bytes.baseAddress { start.copyMemory(from: base, byteCount: bytes.count) }
        return UnsafeRawPointer(start)
    }

    func room(_ count: Int) -> UnsafeMutableRawPointer {
        precondition(count <= capacity)
        return end - count
    }
}
