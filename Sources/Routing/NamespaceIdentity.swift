// Tells one network namespace from the next at the same path.

public struct NamespaceIdentity: Sendable, Hashable, Codable {
    public let device: UInt64
    public let inode: UInt64

    public init(device: UInt64, inode: UInt64) {
        self.device = device
        self.inode = inode
    }
}
