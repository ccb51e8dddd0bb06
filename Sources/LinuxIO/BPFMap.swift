// Maps of the claim program: filled once before the program is loaded, which then keeps them.
// No BTF, so that kernels without it take them.

import CLinux
import Glibc

/// The entries of one map, as bytes. Values have 32 bits.
struct MapContents {
    enum Kind {
        /// The key begins with the number of bits that count, in 32 bits of host order
        /// (linux/bpf.h `struct bpf_lpm_trie_key`).
        case longestPrefix
        case exact
    }

    let kind: Kind
    /// At most 15 bytes, for `bpftool map`.
    let name: StaticString
    let keyBytes: Int
    private(set) var keys: [UInt8] = []
    private(set) var values: [UInt32] = []

    var isEmpty: Bool { values.isEmpty }

    /// - Parameter dataBytes: bytes of a key, without the number of bits that count.
    init(_ kind: Kind, _ name: StaticString, dataBytes: Int) {
        self.kind = kind
        self.name = name
        keyBytes = dataBytes + (kind == .longestPrefix ? 4 : 0)
    }

    /// - Parameters:
    ///   - bits: of `data` that count; ignored where all do.
    ///   - data: the parts of the key, in order.
    mutating func add(bits: Int = 0, _ data: [UInt8]..., value: UInt32 = 1) {
        if kind == .longestPrefix { keys += bytes(of: UInt32(truncatingIfNeeded: bits)) }
        for part in data { keys += part }
        values.append(value)
        assert(keys.count == values.count * keyBytes)
    }

    /// Makes the map and fills it. The memory is the cgroup's until nobody holds the map.
    func make(object: String) throws(SystemError) -> Descriptor {
        var attributes = bpf_attr()
        attributes.map_type = UInt32(
            (kind == .exact ? BPF_MAP_TYPE_HASH : BPF_MAP_TYPE_LPM_TRIE).rawValue)
        attributes.key_size = UInt32(keyBytes)
        attributes.value_size = 4
        attributes.max_entries = UInt32(clamping: max(values.count, 1))
        // The kernel makes no trie without this flag.
        attributes.map_flags = kind == .longestPrefix ? UInt32(BPF_F_NO_PREALLOC) : 0
        withUnsafeMutableBytes(of: &attributes.map_name) { copy(name, to: $0) }
        let map = Descriptor(
            try BPF.call(BPF_MAP_CREATE, &attributes, "bpf(BPF_MAP_CREATE \(name))", object))
        if values.isEmpty { return map }
        var batch = bpf_attr()
        try keys.withUnsafeBufferPointer { (keys) throws(SystemError) in
            try values.withUnsafeBufferPointer { (values) throws(SystemError) in
                batch.batch.map_fd = UInt32(map.number)
                batch.batch.keys = UInt64(UInt(bitPattern: keys.baseAddress))
                batch.batch.values = UInt64(UInt(bitPattern: values.baseAddress))
                batch.batch.count = UInt32(clamping: values.count)
                try BPF.call(
                    BPF_MAP_UPDATE_BATCH, &batch, "bpf(BPF_MAP_UPDATE_BATCH \(name))", object)
            }
        }
        return map
    }
}

/// A number as it lies in memory.
func bytes(of value: UInt32) -> [UInt8] { withUnsafeBytes(of: value) { Array($0) } }

private func copy(_ name: StaticString, to field: UnsafeMutableRawBufferPointer) {
    name.withUTF8Buffer { field.copyBytes(from: $0.prefix(field.count - 1)) }
}

enum BPF {
    /// Calls bpf(2), again where the kernel was interrupted.
    /// - Parameter hint: for errors that have no cause of their own.
    @discardableResult
    static func call(
        _ command: bpf_cmd, _ attributes: inout bpf_attr, _ operation: String, _ object: String,
        hint: String? = nil
    ) throws(SystemError) -> Int32 {
        // A signal, or the kernel's own work for this thread, ends the verifier's with EAGAIN.
        var result = -EAGAIN
        for _ in 0..<5 where result == -EAGAIN || result == -EINTR {
            result = clinux_bpf(
                Int32(command.rawValue), &attributes, UInt32(MemoryLayout<bpf_attr>.size))
        }
        return try checkNegative(operation, object, mend: Self.hint(-result) ?? hint, result)
    }

    /// What to do, by what the kernel says.
    private static func hint(_ error: Int32) -> String? {
        switch error {
        case EPERM, EACCES:
            """
            grant CAP_BPF and CAP_NET_ADMIN, and let the container's seccomp profile allow bpf, \
            or set consume: socket
            """
        case ENOSYS:
            "let the container's seccomp profile allow bpf, or set consume: socket"
        case ENOMEM, E2BIG: "free memory, or raise the cgroup's memory.max"
        default: nil
        }
    }
}
