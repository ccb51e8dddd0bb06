// Loads BPF programs with their maps, filled once before, which the program then keeps.
// No BTF, so that kernels without it take them.

import CLinux
import Glibc
import IP

extension FilterMap {
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

extension FilterProgram {
    /// Makes the maps and loads the program as a traffic-control classifier. Its descriptor holds
    /// the maps. Needs CAP_BPF and CAP_NET_ADMIN.
    func load(object: String) throws(SystemError) -> Descriptor {
        var words = words
        var descriptors: [Int: Descriptor] = [:]
        for reference in references {
            // Not by ??, whose closure forgets what is thrown.
            let map: Descriptor
            if let made = descriptors[reference.map] {
                map = made
            } else {
                map = try maps[reference.map].make(object: object)
                descriptors[reference.map] = map
            }
            words[reference.at] |= UInt64(UInt32(bitPattern: map.number)) << 32
        }
        defer { withExtendedLifetime(descriptors) {} }
        return try BPF.load(words, type: BPF_PROG_TYPE_SCHED_CLS, object: object, name: "shuck_claim")
    }
}

private func copy(_ name: String, to field: UnsafeMutableRawBufferPointer) {
    field.copyBytes(from: name.utf8.prefix(field.count - 1))
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
        return try checkNegative(operation, object, hint: Self.hint(-result) ?? hint, result)
    }

    /// Loads instructions as a program of a type.
    /// - Parameter name: by which bpftool and doctor know it.
    static func load(
        _ words: [UInt64], type: bpf_prog_type, object: String, name: String = ""
    ) throws(SystemError) -> Descriptor {
        var attributes = bpf_attr()
        let license: StaticString = "Apache-2.0"
        return try words.withUnsafeBufferPointer { (instructions) throws(SystemError) in
            attributes.prog_type = UInt32(type.rawValue)
            withUnsafeMutableBytes(of: &attributes.prog_name) { copy(name, to: $0) }
            attributes.insn_cnt = UInt32(instructions.count)
            attributes.insns = UInt64(UInt(bitPattern: instructions.baseAddress))
            attributes.license = UInt64(UInt(bitPattern: license.utf8Start))
            return Descriptor(try call(BPF_PROG_LOAD, &attributes, "bpf(BPF_PROG_LOAD)", object))
        }
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
