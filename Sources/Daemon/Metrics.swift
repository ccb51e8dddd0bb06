// Sums of what workers counted, and /metrics: the Prometheus text of all series (exposition format 0.0.4).

import Forwarding
import Settings

extension Totals {
    /// Adds what one worker counted under one policy.
    mutating func add(_ values: CounterBlock.Values, worker: Int, configuration: Configuration) {
        let counted = Counted(values: values, worker: "\(worker)", configuration: configuration)
        for metric in Metric.all {
            let samples =
                switch metric.source {
                case .single(let single): [([counted.worker], values[single])]
                case .counted(let samples): samples(counted)
                case .value, .each: [] as [([String], UInt64)]
                }
            for (labels, value) in samples {
                self[Series(metric: metric.name, labels: labels), default: 0] &+= value
            }
        }
    }

    func sum(_ metric: Metric) -> UInt64 {
        reduce(0) { $0 + ($1.key.metric == metric.name ? $1.value : 0) }
    }

    /// By the value of one label; only what is not 0.
    func sums(_ metric: Metric, by label: String) -> [String: UInt64] {
        guard let place = metric.labels.firstIndex(of: label) else { return [:] }
        return reduce(into: [:]) { sums, entry in
            guard entry.key.metric == metric.name, entry.value > 0 else { return }
            sums[entry.key.labels[place], default: 0] += entry.value
        }
    }
}

extension Scrape {
    var text: String {
        let counted = Dictionary(grouping: counts.totals, by: \.key.metric)
        var page = ""
        for metric in Metric.all {
            let samples =
                switch metric.source {
                case .single, .counted:
                    (counted[metric.name] ?? []).map { ($0.key.labels, Double($0.value)) }
                case .value(let value): [([String](), value(self))]
                case .each(let samples): samples(self)
                }
            guard !samples.isEmpty else { continue }
            let type = metric.isCounter ? "counter" : "gauge"
            page += "# HELP \(metric.name) \(metric.help)\n# TYPE \(metric.name) \(type)\n"
            let lines = samples.map { (metric.series($0.0), $0.1) }.sorted { $0.0 < $1.0 }
            for (series, value) in lines { page += "\(series) \(Self.number(value))\n" }
        }
        return page
    }

    private static func number(_ value: Double) -> String {
        value == value.rounded() && abs(value) < 1e15 ? "\(Int64(value))" : "\(value)"
    }
}

extension Metric {
    /// As the page has it.
    func series(_ values: [String]) -> String {
        if labels.isEmpty { return name }
        let pairs = zip(labels, values).map { "\($0)=\"\(Self.escaped($1))\"" }
        return name + "{" + pairs.joined(separator: ",") + "}"
    }

    private static func escaped(_ value: String) -> String {
        guard value.utf8.contains(where: { $0 == 0x5c || $0 == 0x22 || $0 == 0x0a }) else { return value }
        return value.reduce(into: "") { text, character in
            switch character {
            case "\\": text += "\\\\"
            case "\"": text += "\\\""
            case "\n": text += "\\n"
            default: text.append(character)
            }
        }
    }
}
