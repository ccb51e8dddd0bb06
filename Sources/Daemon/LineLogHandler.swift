// Log lines for people, for machines and for the journal: one handler, three forms.

import Foundation
import LinuxIO
import Logging
import Settings
import Synchronization

/// Hands each line to `LogSink`: logging never waits.
struct LineLogHandler: LogHandler {
    /// nil: as the configuration says.
    private var ownLevel: Logger.Level?
    var metadata: Logger.Metadata = [:]

    init() {
        LogSink.standardError.setNotice { Self.line(.warning, "\($0)", [:]) }
    }

    var logLevel: Logger.Level {
        get { ownLevel ?? LogSettings.level }
        set { ownLevel = newValue }
    }

    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    func log(event: LogEvent) {
        let all = metadata.merging(event.metadata ?? [:]) { $1 }
        LogSink.standardError.write(Self.line(event.level, event.message, all))
    }

    private static func line(
        _ level: Logger.Level, _ message: Logger.Message, _ metadata: Logger.Metadata
    ) -> String {
        switch LogSettings.format {
        case .json: json(level, message, metadata)
        // The journal keeps the time itself.
        case .journal: "<\(priority(level))>" + text(message, metadata)
        case .auto, .text: "\(Host.timestamp()) \(level) " + text(message, metadata)
        }
    }

    private static func text(_ message: Logger.Message, _ metadata: Logger.Metadata) -> String {
        "\(message)" + metadata.sorted { $0.key < $1.key }.map { " \($0.key)=\($0.value)" }.joined()
    }

    private static func json(
        _ level: Logger.Level, _ message: Logger.Message, _ metadata: Logger.Metadata
    ) -> String {
        var fields = metadata.mapValues { "\($0)" }
        fields["time"] = Host.timestamp()
        fields["level"] = "\(level)"
        fields["message"] = "\(message)"
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        guard let data = try? encoder.encode(fields) else { return "\(message)" }
        return String(decoding: data, as: UTF8.self)
    }

    /// sd-daemon(3) priorities.
    private static func priority(_ level: Logger.Level) -> Int {
        switch level {
        case .trace, .debug: 7
        case .info: 6
        case .notice: 5
        case .warning: 4
        case .error: 3
        case .critical: 2
        }
    }
}
