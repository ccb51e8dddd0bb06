// What `log` of the configuration asks for.

import Foundation
import Logging
import Settings
import Synchronization

/// What `log` of the configuration says; every logger follows a change of it.
enum LogSettings {
    private static let current = Mutex(Configuration.Log())

    static var level: Logger.Level { current.withLock { $0.loggerLevel } }

    /// Never `auto`: that is `journal` when systemd reads our standard error, else `text`.
    static var format: Configuration.Log.Format {
        let format = current.withLock { $0.format }
        guard format == .auto else { return format }
        return ProcessInfo.processInfo.environment["JOURNAL_STREAM"] == nil ? .text : .journal
    }

    static func apply(_ log: Configuration.Log) { current.withLock { $0 = log } }
}

extension Configuration.Log {
    /// The same level in swift-log's words.
    var loggerLevel: Logger.Level { Logger.Level(rawValue: level.rawValue) ?? .info }
}
