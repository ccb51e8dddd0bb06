// Why a capture could not be read or written.

/// One sentence, with the file where it is known.
public struct CaptureError: Error {
    public var message: String
    /// Of a write to standard output that failed; else 0.
    public var errno: Int32 = 0

    public init(message: String) { self.message = message }

    static func unsupported(linkType: String) -> CaptureError {
        CaptureError(
            message: """
                link type \(linkType) is not supported; there are Ethernet, RAW, IPV4, IPV6, LINUX_SLL and \
                LINUX_SLL2
                """)
    }
}
