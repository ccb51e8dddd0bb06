// Log lines for people, for machines and for the journal: one handler, three forms.

import Foundation
import LinuxIO
import Logging
import Settings

/// Writes each line with one write(2) to standard error.
struct LineLogHandler: LogHandler {
    var logLevel: Logger.Level
    var metadata: Logger.Metadata = [:]
    let form: Configuration.Log.Format

    /// `auto` becomes `journal` when systemd reads our standard error, else `text`.
    init(level: Logger.Level, format: Configuration.Log.Format) {
        logLevel = level
        guard format == .auto else {
            form = format
            return
        }
        form = ProcessInfo.processInfo.environment["JOURNAL_STREAM"] == nil ? .text : .journal
    }

    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    func log(event: LogEvent) {
        let all = metadata.merging(event.metadata ?? [:]) { $1 }
        let line = switch form {
        case .json: json(event.level, event.message, all)
        case .journal: "<\(Self.priority(event.level))>" + text(event.message, all)
        case .auto, .text:
            "\(Self.timestamp()) \(event.level) " + text(event.message, all)
        }
        FileHandle.standardError.write(Data((line + "\n").utf8))
    }

    private func text(_ message: Logger.Message, _ metadata: Logger.Metadata) -> String {
        "\(message)" + metadata.sorted { $0.key < $1.key }.map { " \($0.key)=\($0.value)" }.joined()
    }

    private func json(
        _ level: Logger.Level, _ message: Logger.Message, _ metadata: Logger.Metadata
    ) -> String {
        var fields = metadata.mapValues { "\($0)" }
        fields["time"] = Self.timestamp()
        fields["level"] = "\(level)"
        fields["message"] = "\(message)"
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        guard let data = try? encoder.encode(fields) else { return "\(message)" }
        return String(decoding: data, as: UTF8.self)
    }

    /// RFC 3339 in UTC, milliseconds.
    private static func timestamp() -> String {
        Date(timeIntervalSince1970: Host.unixSeconds()).formatted(
            .iso8601.time(includingFractionalSeconds: true))
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

extension Configuration.Log {
    /// The same level in swift-log's words.
    var loggerLevel: Logger.Level { Logger.Level(rawValue: level.rawValue) ?? .info }
}
