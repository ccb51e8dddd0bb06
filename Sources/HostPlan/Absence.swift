// What could not be opened, why, and when it is tried again: each part by itself.

/// Why a host is planned for; it decides what becomes of a part that cannot be opened.
public enum Occasion: Sendable {
    case start, reload
    /// The host changed.
    case follow
}

/// Why a part is not there.
public struct Absence: Sendable, Equatable {
    public let reason: String
    /// ifindex that stood under the name when it was tried; another one is tried at once.
    public private(set) var index: Int32 = 0
    /// Attempts in a row that failed. 0: not tried, for what it needs is awaited.
    public private(set) var failures = 0
    /// CLOCK_MONOTONIC; `max`: not before something changes.
    public private(set) var notBeforeNanoseconds: UInt64 = 0
    public private(set) var isPermission = false

    public var isAwaited: Bool { failures == 0 }

    /// Of something that comes with a notice: a namespace.
    public init(awaiting reason: String) { self.reason = reason }

    /// - Parameter isFinal: only another configuration can change it.
    public init(
        _ reason: String, index: Int32, isPermission: Bool, isFinal: Bool, after old: Absence?, now: UInt64
    ) {
        self.reason = reason
        self.index = index
        self.isPermission = isPermission
        failures = (old.flatMap { $0.index == index ? $0.failures : nil } ?? 0) + 1
        notBeforeNanoseconds = isFinal ? .max : now + Backoff.nanoseconds(failures: failures)
    }
}

extension Part {
    /// Whether a part that fails keeps the daemon from starting, or a configuration from being applied.
    /// - Parameters:
    ///   - isTaken: another shuck has the interface.
    ///   - wasAbsent: it was absent before, for the same reason or another one.
    public func refuses(
        _ occasion: Occasion, isPermission: Bool, isTaken: Bool, wasAbsent: Bool
    ) -> Bool {
        switch (occasion, self) {
        case (.follow, _), (_, .claim): false
        case (.reload, _): !wasAbsent
        // A retry does not bring a missing permission; other causes may pass.
        case (.start, .interface): isPermission || isTaken
        case (.start, .device), (.start, .answers): isPermission
        // Whoever asks for these is to hear of it before anything runs.
        case (.start, .claims), (.start, .replyTable), (.start, .errors): true
        }
    }
}
