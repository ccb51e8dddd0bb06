// Arrays that readers find by a plain pointer.

/// Memory that stays where it is as long as this lives. Not thread-safe while it is filled.
public final class StableMemory: @unchecked Sendable {
    // @unchecked: filled by who makes it, and read only by who holds it.
    private var blocks: [UnsafeMutableRawPointer] = []

    public init() {}

    public func copy<T: BitwiseCopyable>(_ values: [T]) -> UnsafePointer<T> {
        let block = UnsafeMutablePointer<T>.allocate(capacity: max(values.count, 1))
        block.initialize(from: values, count: values.count)
        blocks.append(UnsafeMutableRawPointer(block))
        return UnsafePointer(block)
    }

    deinit { for block in blocks { block.deallocate() } }
}
